"""What one request needs: from its input, and the table, to actions on ARNs.

ARNs are written here, from names that were checked, in the one form in which this server writes them: how a client
spelt its own makes no difference to a policy.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from whimbrel.auth.policy.limits import VALUE_CHARACTERS_MAX
from whimbrel.core.errors import InvalidRequestError, UnknownModelError
from whimbrel.embeddings import EmbeddingModels
from whimbrel.wire.access.rule import Members, Target
from whimbrel.wire.access.table import RULES
from whimbrel.wire.arn import ArnFormat
from whimbrel.wire.naming import (
    check_bucket_name,
    check_index_name,
    names_bucket_alone,
    resolve_bucket,
    resolve_index,
    resolve_resource,
)

ALL: Final = "*"
LONG_MODEL_TEXT: Final = f"modelId must have at most {VALUE_CHARACTERS_MAX} characters"


class Place(NamedTuple):
    """Where a resource is whose tags and policy count.

    Attributes:
        bucket_name: the vector bucket.
        index_name: the index in it; None for the bucket itself.
    """

    bucket_name: str
    index_name: str | None = None


class Named(NamedTuple):
    """A resource that a request names.

    Attributes:
        arn: its ARN, or `*`.
        place: what it is about; None where no vector bucket has a say.
    """

    arn: str = ALL
    place: Place | None = None


class Need(NamedTuple):
    """One action on one resource.

    Attributes:
        action: such as `s3vectors:GetIndex`.
        resource: its ARN, or `*`.
        place: what it is about; None where no vector bucket has a say.
    """

    action: str
    resource: str = ALL
    place: Place | None = None


class NeedReader:
    """Works out what requests need."""

    def __init__(self, arns: ArnFormat, models: EmbeddingModels) -> None:
        self._arns = arns
        self._models = models
        # What is not here is for the protocols to name that have it.
        self._by_target: Final[dict[Target, Callable[[Members], Named]]] = {
            Target.ALL: self._any,
            Target.BUCKET: self._bucket,
            Target.INDEX: self._index,
            Target.NEW_INDEX: self._new_index,
            Target.TAGGED: self._tagged,
            Target.LISTED: self._listed,
            Target.LISTED_BUCKET: self._listed_bucket,
            Target.FORK: self._fork,
            Target.MODEL: self._model,
        }

    def read(self, action: str, members: Members) -> list[Need]:
        """Returns what a request needs, its own action first.

        Args:
            action: of its operation.
            members: its input.

        Raises:
            InvalidRequestError: it does not name a resource as it has to.
            NotFoundError: it names one of another account.
        """
        rule = RULES[action]
        named = {target: self._by_target[target](members) for target in rule.targets}
        needs = [Need(action, one.arn, one.place) for one in named.values()]
        for also in rule.also:
            if also.applies(members):
                one = named.get(also.target) or self._by_target[also.target](members)
                needs.append(Need(also.action, one.arn, one.place))
        return needs

    def of_index(self, action: str, members: Members) -> Need:
        """Returns an action on the index that a request is about."""
        named = self._index(members)
        return Need(action, named.arn, named.place)

    def of_model(self, action: str, model_id: str) -> Need:
        """Returns an action on a model, however the client names it; one that there is not has its name for an ARN.

        Raises:
            InvalidRequestError: its name is longer than any can be.
        """
        if len(model_id) > VALUE_CHARACTERS_MAX:
            raise InvalidRequestError(LONG_MODEL_TEXT, ("modelId", LONG_MODEL_TEXT))
        try:
            model_id = self._models.find(model_id).model_id
        except UnknownModelError:
            if model_id.startswith("arn:"):
                return Need(action, model_id)
        return Need(action, self._arns.format_model(model_id))

    # --- what a request names, by target ---

    def _at(self, bucket_name: str, index_name: str | None = None) -> Named:
        place = Place(bucket_name, index_name)
        if index_name is None:
            return Named(self._arns.format_bucket(bucket_name), place)
        return Named(self._arns.format_index(bucket_name, index_name), place)

    def _bucket(self, members: Members) -> Named:
        return self._at(resolve_bucket(members, account_id=self._arns.account_id))

    def _index(self, members: Members) -> Named:
        return self._at(*resolve_index(members, account_id=self._arns.account_id))

    def _new_index(self, members: Members) -> Named:
        bucket_name = resolve_bucket(members, account_id=self._arns.account_id)
        return self._at(bucket_name, check_index_name(members["indexName"]))

    def _tagged(self, members: Members) -> Named:
        return self._at(*resolve_resource(members["resourceArn"], account_id=self._arns.account_id))

    def _listed(self, members: Members) -> Named:
        if names_bucket_alone(members):
            return self._at(check_bucket_name(members["vectorBucketName"]))
        return self._index(members)

    def _listed_bucket(self, members: Members) -> Named:
        place = self._listed(members).place
        assert place is not None
        return self._at(place.bucket_name)

    def _fork(self, members: Members) -> Named:
        source = self._index(members).place
        assert source is not None
        name = members.get("targetVectorBucketName", source.bucket_name)
        check_bucket_name(name, path="targetVectorBucketName")
        return self._at(name, check_index_name(members["targetIndexName"], path="targetIndexName"))

    def _model(self, members: Members) -> Named:
        return Named(self.of_model("", members["modelId"]).resource)

    def _any(self, _: Members) -> Named:
        return Named()
