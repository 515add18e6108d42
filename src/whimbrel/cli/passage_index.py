"""Indexes of passages: made, found, and held to the model that embedded what they have.

Vectors of different models lie in different spaces, whatever their dimension, so an index notes in its tags which model
its passages went through, and who answered for it. Both `whimbrel put` and `whimbrel query` go by that.
"""

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from whimbrel.cli.refusals import ConflictCallError, InvalidCallError, MissingError
from whimbrel.cli.server_call import Caller, Members
from whimbrel.core.errors import Kind, WhimbrelError
from whimbrel.documents.passages import CHUNK, HEADINGS

DEFAULT_MODEL: Final = "whimbrel.all-minilm-l6-v2"

MODEL_TAG: Final = "whimbrel:embedding-model"
ANSWERED_BY_TAG: Final = "whimbrel:embedding-answered-by"
TEXT_KEY_TAG: Final = "whimbrel:text-key"

SOURCE_KEYS: Final = {
    "text": "source",
    "S3VECTORS-EMBED-SRC-CONTENT": "S3VECTORS-EMBED-SRC-LOCATION",
    "_page_content": "source",
    "AMAZON_BEDROCK_TEXT": "x-amz-bedrock-kb-source-uri",
}
"""Metadata keys where tools keep passages, ours first, and where each keeps what a passage is from: `s3vectors-embed`,
LangChain, knowledge bases of Bedrock."""

TEXT_KEY: Final = "text"
SOURCE_KEY: Final = "source"

_NO_TAG_CHAR = re.compile(r"[^\w .:/=+\-@]")
_TAG_CHARS_MAX: Final = 256


class PassageError(WhimbrelError):
    """An index cannot take these passages, or cannot be searched by this model.

    Attributes:
        hint: what to do about it.
    """

    kind: ClassVar[Kind] = Kind.INVALID

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Model:
    """A model as it answers now.

    Attributes:
        model_id: as it is asked for.
        answered_by: name of the model that really embeds.
        dimension: of its vectors.
    """

    model_id: str
    answered_by: str
    dimension: int


@dataclass(frozen=True, slots=True)
class PassageIndex:
    """An index that is there.

    Attributes:
        name: the members that name it in requests.
        arn: of it.
        dimension: of its vectors.
        metric: of its distances.
        non_filterable: metadata keys that filters may not use, and that may therefore be long.
        searchable: metadata keys whose words can be asked for.
        tags: all it has.
    """

    name: Members
    arn: str
    dimension: int
    metric: str
    non_filterable: tuple[str, ...]
    searchable: tuple[str, ...]
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What it is called, for people."""
        return f"{self.name['vectorBucketName']}/{self.name['indexName']}"


def name_members(target: str) -> Members:
    """Returns the members that name an index, from `BUCKET/INDEX` or an ARN.

    Raises:
        InvalidRequestError: it is neither.
    """
    from whimbrel.server.inspection import parse_index

    named = parse_index(target)
    return {"vectorBucketName": named.bucket_name, "indexName": named.index_name}


def find_index(caller: Caller, name: Members) -> PassageIndex:
    """Returns an index.

    Raises:
        MissingError: it is not there.
        CallError: the server refused or did not answer.
    """
    found = caller.call("GetIndex", name)["index"]
    configuration = found.get("metadataConfiguration", {})
    texts = configuration.get("textSearchConfigurations", ())
    arn = found["indexArn"]
    return PassageIndex(
        name,
        arn,
        found["dimension"],
        found["distanceMetric"],
        tuple(configuration.get("nonFilterableMetadataKeys", ())),
        tuple(each["metadataKey"] for each in texts),
        caller.call("ListTagsForResource", {"resourceArn": arn})["tags"],
    )


def embed(
    caller: Caller, model_id: str, texts: list[str], *, purpose: str, dimension: int | None
) -> tuple[list[Members], Model]:
    """Embeds texts.

    Returns:
        The members of each text's embedding, and the model that made them.

    Raises:
        CallError: the server has no such model, or it cannot answer.
    """
    members: Members = {"modelId": model_id, "texts": texts, "purpose": purpose}
    if dimension is not None:
        members["dimension"] = dimension
    answer = caller.call("EmbedTexts", members)
    return answer["embeddings"], Model(model_id, answer["model"], answer["dimension"])


# --- putting ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the user wants of an index to put into; None where it is left to us.

    Attributes:
        model_id: to embed with.
        dimension: of a new index.
        text_key: metadata key of passages.
    """

    model_id: str | None = None
    dimension: int | None = None
    text_key: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """How passages go into an index.

    Attributes:
        caller: of the server or store that has it.
        name: the members that name it.
        model: embeds.
        text_key: metadata key of passages.
        index: as it is; None where it has to be made.
    """

    caller: Caller
    name: Members
    model: Model
    text_key: str
    index: PassageIndex | None


def plan_index(caller: Caller, name: Members, wishes: Wishes, *, reserved: frozenset[str]) -> Plan:
    """Finds out what an index is, and asks the model once; changes nothing.

    Args:
        caller: of the server or store.
        name: the members that name the index.
        wishes: the user's.
        reserved: metadata keys that the user gives values of.

    Raises:
        PassageError: the index cannot take what was wished for.
        CallError: the server refused, or did not answer.
    """
    index = _find_or_none(caller, name)
    if index is None:
        model_id, dimension = wishes.model_id or DEFAULT_MODEL, wishes.dimension
        text_key = wishes.text_key or TEXT_KEY
    else:
        model_id, dimension = _choose_model_id(caller, index, wishes.model_id), index.dimension
        text_key = _choose_text_key(index, wishes.text_key)
        _check_wishes(index, wishes)
    _check_reserved(reserved, text_key)
    model = _probe(caller, model_id, dimension, index)
    if index is not None:
        hint = "put into another index, or name another model with --model-id"
        check_model(index, model, hint=hint)
    return Plan(caller, name, model, text_key, index)


def make_index(plan: Plan, *, is_searchable: bool) -> list[str]:
    """Makes what is missing, and notes the model in the tags of an index that lacks it.

    Args:
        plan: for the index.
        is_searchable: whether words of a new index can be asked for.

    Returns:
        What was made, a line each.

    Raises:
        CallError: the server refused, or did not answer.
    """
    if plan.index is None:
        return _create_index(plan, is_searchable=is_searchable)
    tags = model_tags(plan.model, plan.text_key)
    if {name: plan.index.tags.get(name) for name in tags} != tags:
        plan.caller.call("TagResource", {"resourceArn": plan.index.arn, "tags": tags})
    return []


def _check_wishes(index: PassageIndex, wishes: Wishes) -> None:
    if wishes.dimension not in (None, index.dimension):
        raise PassageError(
            f"the index has {index.dimension} dimensions, not {wishes.dimension}. index=`{index.title}`",
            hint="put into another index, or leave out --dimension",
        )


def _check_reserved(reserved: frozenset[str], text_key: str) -> None:
    taken = reserved & {text_key, source_key_of(text_key), CHUNK, HEADINGS}
    if taken:
        raise PassageError(
            f"the metadata key `{min(taken)}` is that of passages themselves",
            hint="call it something else in --metadata",
        )


def _probe(
    caller: Caller, model_id: str, dimension: int | None, index: PassageIndex | None
) -> Model:
    """Returns the model as it answers."""
    try:
        _, model = embed(caller, model_id, ["whimbrel"], purpose="DOCUMENT", dimension=dimension)
    except InvalidCallError as error:
        if index is None:
            raise
        raise PassageError(
            f"{error}; the index has {index.dimension}. index=`{index.title}`"
            if dimension is not None and "dimension" in str(error)
            else str(error),
            hint="put into another index, or name another model with --model-id",
        ) from error
    return model


def _find_or_none(caller: Caller, name: Members) -> PassageIndex | None:
    """Returns an index, or None where it is not there."""
    try:
        return find_index(caller, name)
    except MissingError:
        return None


def _create_index(plan: Plan, *, is_searchable: bool) -> list[str]:
    """Makes an index for passages, and the bucket where there is none.

    Raises:
        CallError: the server refused, as names may be impossible, or the index may have been made meanwhile.
    """
    caller, name, model, text_key = plan.caller, plan.name, plan.model, plan.text_key
    made = []
    bucket_name = name["vectorBucketName"]
    try:
        caller.call("CreateVectorBucket", {"vectorBucketName": bucket_name})
        made.append(f"made the bucket {bucket_name}")
    except ConflictCallError:
        pass  # it is there
    configuration: Members = {"nonFilterableMetadataKeys": [text_key]}
    if is_searchable:
        configuration["textSearchConfigurations"] = [{"metadataKey": text_key}]
    members = {
        **name,
        "dataType": "float32",
        "dimension": model.dimension,
        "distanceMetric": "cosine",
        "metadataConfiguration": configuration,
        "tags": model_tags(model, text_key),
    }
    caller.call("CreateIndex", members)
    searchable = ", searchable by words" if is_searchable else ""
    made.append(
        f"made the index {name['indexName']}: {model.dimension} dimensions, cosine, texts of passages in the "
        f"non-filterable metadata key `{text_key}`{searchable}"
    )
    return made


def model_tags(model: Model, text_key: str) -> dict[str, str]:
    """Returns the tags that tell what an index's passages went through."""
    return {
        MODEL_TAG: _tag_value(model.model_id),
        ANSWERED_BY_TAG: _tag_value(model.answered_by),
        TEXT_KEY_TAG: _tag_value(text_key),
    }


def _tag_value(text: str) -> str:
    return _NO_TAG_CHAR.sub("_", text)[:_TAG_CHARS_MAX]


def _choose_text_key(index: PassageIndex, wanted: str | None) -> str:
    """Returns the metadata key for passages of an index that is there.

    Args:
        index: the index.
        wanted: by the user, where one was named.

    Raises:
        PassageError: the key is filterable, or none is fit.
    """
    hint = (
        "which keys are non-filterable is decided when an index is created: put into a new index, "
        "or name a non-filterable key of this one with --text-key"
    )
    noted = index.tags.get(TEXT_KEY_TAG)
    candidates = [wanted] if wanted else [*([noted] if noted else []), *SOURCE_KEYS]
    for key in candidates:
        if key in index.non_filterable:
            return key
    what = f"the metadata key `{candidates[0]}` is filterable"
    raise PassageError(
        f"{what}, so that passages have no room in it: filterable metadata ends at 2 KB. index=`{index.title}`",
        hint=hint,
    )


def source_key_of(text_key: str) -> str:
    """Returns the metadata key for what passages are from, beside the key for their texts."""
    return SOURCE_KEYS.get(text_key, SOURCE_KEY)


def _choose_model_id(caller: Caller, index: PassageIndex, wanted: str | None) -> str:
    """Returns the model that passages put into an index have to go through.

    Raises:
        PassageError: it is another than the one wanted, or nobody knows.
    """
    noted = index.tags.get(MODEL_TAG)
    if noted is None:
        if (
            wanted is None
            and caller.call("ListVectors", {**index.name, "maxResults": 1})["vectors"]
        ):
            raise PassageError(
                f"the index has vectors, and does not say which model they are from. index=`{index.title}`",
                hint="name it with --model-id, which notes it in the index's tags",
            )
        return wanted or DEFAULT_MODEL
    if wanted is not None and _tag_value(wanted) != noted:
        raise PassageError(
            f"the index has vectors of {noted}; those of {wanted} cannot be compared with them. index=`{index.title}`",
            hint="put into another index, or leave out --model-id",
        )
    return wanted or noted


def check_model(index: PassageIndex, model: Model, *, hint: str) -> None:
    """Refuses a model whose vectors cannot be compared with those of an index.

    Raises:
        PassageError: it has another dimension, or is not who answered before.
    """
    if model.dimension != index.dimension:
        raise PassageError(
            f"the index has vectors of {index.dimension} dimensions, the model {model.model_id} has "
            f"{model.dimension}. index=`{index.title}`",
            hint=hint,
        )
    noted = index.tags.get(ANSWERED_BY_TAG)
    if noted is not None and noted != _tag_value(model.answered_by):
        raise PassageError(
            f"{model.model_id} was answered by {noted} when the index was filled, and is by {model.answered_by} now. "
            f"index=`{index.title}`",
            hint=hint,
        )


# --- reading ---------------------------------------------------------------------------------------


def text_key_in(index: PassageIndex, metadata: Members) -> str | None:
    """Returns the metadata key under which a vector has its passage; None where it has none."""
    candidates: list[Any] = [index.tags.get(TEXT_KEY_TAG), *SOURCE_KEYS]
    return next((key for key in candidates if isinstance(metadata.get(key), str)), None)


def query_model_id(index: PassageIndex, wanted: str | None, *, is_forced: bool) -> str:
    """Returns the model that a query of an index has to go through.

    Raises:
        PassageError: it is another than the one wanted, or nobody knows.
    """
    noted = index.tags.get(MODEL_TAG)
    if noted is None and wanted is None:
        raise PassageError(
            f"the index does not say which model its vectors are from. index=`{index.title}`",
            hint="name the model with --model-id",
        )
    if noted is not None and wanted is not None and _tag_value(wanted) != noted and not is_forced:
        raise PassageError(
            f"the index has vectors of {noted}; one of {wanted} cannot be compared with them. index=`{index.title}`",
            hint="leave out --model-id, or search nevertheless with --force",
        )
    return wanted or noted or DEFAULT_MODEL


def searchable_text_key(index: PassageIndex) -> str:
    """Returns the metadata key of passages whose words can be asked for.

    Raises:
        PassageError: there is none.
    """
    candidates = [index.tags.get(TEXT_KEY_TAG), *SOURCE_KEYS]
    for key in candidates:
        if key is not None and key in index.searchable:
            return key
    raise PassageError(
        f"words of the passages are not searchable. index=`{index.title}`",
        hint="leave out --hybrid, or make the index with whimbrel put --searchable",
    )
