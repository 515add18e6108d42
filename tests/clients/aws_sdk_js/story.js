// Tells the story of tests/clients/sdk_story.py with the AWS SDK for JavaScript: one line of JSON per step.
import * as sdk from "@aws-sdk/client-s3vectors";
import { NodeHttp2Handler } from "@smithy/node-http-handler";

const RECORD_COUNT = 250;
const WIDE_DIMENSION = 1024;
const WIDE_COUNT = 500;
const BITS = [
  0x7f7fffff, 0xff7fffff, 0x00800000, 0x00000001, 0x3dcccccd, 0x3eaaaaab, 0x4b800001, 0x80000000, 0x3f800001,
];

const client = new sdk.S3VectorsClient({});
const vectorBucketName = process.argv[2];
const birds = { vectorBucketName, indexName: "birds" };
const wide = { vectorBucketName, indexName: "wide" };

const send = (name, input) => client.send(new sdk[`${name}Command`](input));
const key = (i) => `k${String(i).padStart(3, "0")}`;
const seconds = (date) => date.getTime() / 1000;
const record = (name, float32, metadata) => ({ key: name, data: { float32 }, metadata });
const put = (index, ...vectors) => send("PutVectors", { ...index, vectors });
const get = async (index, ...keys) =>
  (await send("GetVectors", { ...index, keys, returnData: true, returnMetadata: true })).vectors;

function emit(step, found) {
  const marked = (_, value) => (typeof value === "bigint" ? `bigint ${value}` : value);
  console.log(JSON.stringify({ step, ...found }, marked).replace(/"bigint (\d+)"/g, "$1"));
}

// Reports a refusal as the class that it is, so that a code without its class shows.
async function emitError(step, promise) {
  try {
    await promise;
    emit(step, { error: null, message: "" });
  } catch (error) {
    const isAnswer = error instanceof sdk.S3VectorsServiceException;
    const typed = [sdk.NotFoundException, sdk.ConflictException, sdk.ValidationException].some(
      (type) => error.constructor === type,
    );
    const found = { error: isAnswer ? error.name : null, message: error.message, typed };
    if (error instanceof sdk.ValidationException) {
      found.fields = error.fieldList.map(({ path, message }) => ({ path, message }));
    }
    emit(step, isAnswer ? found : { error: null, message: String(error) });
  }
}

async function buckets() {
  for (const name of [vectorBucketName, `${vectorBucketName}-2`]) {
    const made = await send("CreateVectorBucket", { vectorBucketName: name, tags: { "made-by": "sdk" } });
    emit(`create bucket ${name}`, { arn: made.vectorBucketArn });
  }
  const { vectorBucket, $metadata } = await send("GetVectorBucket", { vectorBucketName });
  emit("get bucket", {
    name: vectorBucket.vectorBucketName,
    arn: vectorBucket.vectorBucketArn,
    created: seconds(vectorBucket.creationTime),
    sse: vectorBucket.encryptionConfiguration.sseType,
  });
  const { httpStatusCode, attempts } = $metadata;
  emit("answer", { status: httpStatusCode, attempts, hasId: $metadata.requestId.length === 36 });
  const names = [];
  for await (const page of sdk.paginateListVectorBuckets({ client, pageSize: 1 }, { prefix: vectorBucketName })) {
    names.push(...page.vectorBuckets.map((bucket) => bucket.vectorBucketName));
  }
  emit("list buckets", { names });
}

async function indexes() {
  for (const [indexName, dimension] of Object.entries({ birds: 3, wide: WIDE_DIMENSION })) {
    const made = await send("CreateIndex", {
      vectorBucketName,
      indexName,
      dimension,
      dataType: "float32",
      distanceMetric: "euclidean",
      metadataConfiguration: { nonFilterableMetadataKeys: ["note"] },
      tags: { index: indexName },
    });
    emit(`create index ${indexName}`, { arn: made.indexArn });
  }
  const { index } = await send("GetIndex", birds);
  emit("get index", {
    name: index.indexName,
    bucket: index.vectorBucketName,
    arn: index.indexArn,
    created: seconds(index.creationTime),
    data_type: index.dataType,
    dimension: index.dimension,
    metric: index.distanceMetric,
    non_filterable: index.metadataConfiguration.nonFilterableMetadataKeys,
  });
  const names = [];
  for await (const page of sdk.paginateListIndexes({ client, pageSize: 1 }, { vectorBucketName })) {
    names.push(...page.indexes.map((index) => index.indexName));
  }
  emit("list indexes", { names });
}

async function records() {
  const vectors = Array.from({ length: RECORD_COUNT }, (_, i) =>
    record(key(i), [i, 0, 0], { n: i, even: i % 2 === 0, name: `bird ${key(i)}` }),
  );
  await put(birds, ...vectors);
  emit("put", { count: vectors.length });
  const got = await get(birds, key(7), "missing");
  emit("get", { keys: got.map((vector) => vector.key), data: got[0].data.float32, metadata: got[0].metadata });
}

async function queries() {
  const query = { ...birds, queryVector: { float32: [0, 0, 0] } };
  const answer = await send("QueryVectors", {
    ...query,
    topK: 3,
    filter: { $and: [{ even: true }, { n: { $gte: 100 } }] },
    returnDistance: true,
    returnMetadata: true,
  });
  emit("query", {
    keys: answer.vectors.map((vector) => vector.key),
    distances: answer.vectors.map((vector) => vector.distance),
    metadata: answer.vectors.map((vector) => vector.metadata),
    metric: answer.distanceMetric,
  });
  const [sizes, keys] = [[], []];
  for await (const page of sdk.paginateQueryVectors({ client }, { ...query, topK: RECORD_COUNT })) {
    sizes.push(page.vectors.length);
    keys.push(...page.vectors.map((vector) => vector.key));
  }
  emit("query pages", { sizes, keys });
}

async function list(input, pageSize) {
  const [sizes, keys] = [[], []];
  for await (const page of sdk.paginateListVectors({ client, pageSize }, { ...birds, ...input })) {
    sizes.push(page.vectors.length);
    keys.push(...page.vectors.map((vector) => vector.key));
  }
  return { sizes, keys };
}

async function lists() {
  emit("list pages", await list({}, 100));
  const parts = await Promise.all([0, 1, 2, 3].map((segmentIndex) => list({ segmentCount: 4, segmentIndex })));
  emit("list segments", { segments: parts.map((part) => part.keys) });
}

async function documents() {
  const document = {
    integer: 7,
    negative: -3,
    half: 0.5,
    tiny: 5e-324,
    huge: 1e300,
    beyond: 9007199254740993n,
    flag: true,
    no: false,
    text: 'Großer Brachvogel 鷸 🐦 "\\\n\u2028',
    ключ: "key",
    words: ["a", "b"],
    numbers: [1, 2.5],
    note: "not for filters",
  };
  await put(birds, record("document", [1, 1, 1], document));
  emit("document", { metadata: (await get(birds, "document"))[0].metadata });
  await put(birds, record("bare", [1, 1, 1]));
  emit("no document", { metadata: (await get(birds, "bare"))[0].metadata });
}

async function refusedDocuments() {
  const cases = {
    nested: { a: { b: 1 } },
    null: { a: null },
    "null in array": { a: ["x", null] },
    "empty array": { a: [] },
    array: [1],
    text: "x",
    number: 1,
    NaN: { a: NaN },
  };
  for (const [name, document] of Object.entries(cases)) {
    await emitError(`refused document ${name}`, put(birds, record("refused", [1, 1, 1], document)));
  }
}

async function floats() {
  const bits = [];
  for (let i = 0; i < BITS.length; i += 3) {
    const sent = new Float32Array(new Uint32Array(BITS.slice(i, i + 3)).buffer);
    await put(birds, record("floats", Array.from(sent)));
    const got = Float32Array.from((await get(birds, "floats"))[0].data.float32);
    bits.push(...new Uint32Array(got.buffer));
  }
  emit("floats", { bits });
}

async function notFinite() {
  for (const value of [NaN, Infinity, -Infinity]) {
    const float32 = [0, value, 0];
    await emitError(`put ${value}`, put(birds, record("refused", float32)));
    await emitError(`query ${value}`, send("QueryVectors", { ...birds, queryVector: { float32 }, topK: 1 }));
  }
}

async function wideRecords() {
  const vectors = Array.from({ length: WIDE_COUNT }, (_, i) =>
    record(
      key(i),
      Array.from({ length: WIDE_DIMENSION }, (_, j) => i + j / WIDE_DIMENSION),
    ),
  );
  await put(wide, ...vectors);
  const data = (await get(wide, key(499)))[0].data.float32;
  emit("wide", { first: data[0], last: data.at(-1), count: data.length });
}

async function errors() {
  await emitError("unknown bucket", send("GetVectorBucket", { vectorBucketName: "no-such-bucket" }));
  await emitError("unknown index", send("GetIndex", { vectorBucketName, indexName: "missing" }));
  await emitError("bucket again", send("CreateVectorBucket", { vectorBucketName }));
  await emitError("bucket not empty", send("DeleteVectorBucket", { vectorBucketName }));
  const refused = { vectorBucketName, indexName: "refused", dataType: "float32", dimension: 5000 };
  await emitError("two fields", send("CreateIndex", { ...refused, distanceMetric: "angular" }));
  await emitError("wrong dimension", put(birds, record("k", [1])));
}

async function policies() {
  const getPolicy = () => send("GetVectorBucketPolicy", { vectorBucketName });
  await emitError("no policy", getPolicy());
  const statement = { Effect: "Deny", Principal: "*", Action: "s3vectors:*", Resource: "*" };
  const policy = JSON.stringify({ Version: "2012-10-17", Statement: [statement] });
  await send("PutVectorBucketPolicy", { vectorBucketName, policy });
  emit("policy", { policy: (await getPolicy()).policy });
  await send("DeleteVectorBucketPolicy", { vectorBucketName });
  await emitError("policy deleted", getPolicy());
}

async function tags() {
  const arns = {
    bucket: (await send("GetVectorBucket", { vectorBucketName })).vectorBucket.vectorBucketArn,
    index: (await send("GetIndex", birds)).index.indexArn,
  };
  for (const [name, resourceArn] of Object.entries(arns)) {
    const list = async (step) =>
      emit(`${step} ${name}`, { tags: (await send("ListTagsForResource", { resourceArn })).tags });
    await list("tags");
    const added = { plain: "1", "a b/c+d=é:@": "ü = more/+", third: "" };
    await send("TagResource", { resourceArn, tags: added });
    await list("tags added");
    await send("UntagResource", { resourceArn, tagKeys: ["plain", "a b/c+d=é:@"] });
    await list("tags removed");
  }
}

// What only this SDK has: a client with a method per operation, and a handler that speaks HTTP/2 from the first byte.
async function beyond() {
  const exported = Object.keys(sdk);
  emit("exports", {
    commands: exported.filter((name) => /^[A-Z]\w+Command$/.test(name)).map((name) => name.slice(0, -7)),
    paginators: exported.filter((name) => /^paginate[A-Z]/.test(name)),
  });
  const all = new sdk.S3Vectors({});
  const { vectors } = await all.getVectors({ ...birds, keys: [key(3)] });
  const queries = Array.from({ length: 20 }, (_, i) =>
    all.queryVectors({ ...birds, queryVector: { float32: [i, 0, 0] }, topK: 1 }),
  );
  const nearest = (await Promise.all(queries)).map((answer) => answer.vectors[0].key);
  emit("method per operation", { vectors, nearest });
  const http2 = new sdk.S3Vectors({ requestHandler: new NodeHttp2Handler({ requestTimeout: 20000 }), maxAttempts: 1 });
  const refusal = await http2.listVectorBuckets({}).then(
    () => null,
    (error) => error.code,
  );
  emit("HTTP/2 from the first byte", { code: refusal });
  http2.destroy();
  all.destroy();
}

async function deletions() {
  await send("DeleteVectors", { ...birds, keys: [key(0), key(1), "missing"] });
  emit("delete", { left: (await get(birds, key(0), key(1), key(2))).map((vector) => vector.key) });
  for (const index of [birds, wide]) await send("DeleteIndex", index);
  for (const name of [vectorBucketName, `${vectorBucketName}-2`]) {
    await send("DeleteVectorBucket", { vectorBucketName: name });
  }
  await emitError("bucket deleted", send("GetVectorBucket", { vectorBucketName }));
}

const chapters = [
  buckets, indexes, records, queries, lists, documents, refusedDocuments, floats, notFinite, wideRecords, errors,
  policies, tags, beyond, deletions,
];
for (const chapter of chapters) await chapter();
client.destroy();
