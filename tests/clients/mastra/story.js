// Calls every method of Mastra's vector store and prints one JSON document with what each said.
import { S3Vectors as Client } from "@aws-sdk/client-s3vectors";
import { S3Vectors } from "@mastra/s3vectors";

const vectorBucketName = process.argv[2];
const store = new S3Vectors({ id: "birds", vectorBucketName, nonFilterableMetadataKeys: ["note"] });
const found = { node: process.versions.node };

let made;
const ids = (results) => results.map((result) => (result.id === made ? "made" : result.id));

async function refusal(promise) {
  try {
    await promise;
    return null;
  } catch (error) {
    return { id: error.id, category: error.category, cause: error.cause?.name, message: error.message };
  }
}

const client = new Client({});
await client.createVectorBucket({ vectorBucketName });
await store.connect();

// The store writes index names in lower case and with dashes.
const indexName = "Wading_Birds";
await store.createIndex({ indexName, dimension: 3, metric: "euclidean" });
await store.createIndex({ indexName, dimension: 3, metric: "euclidean" });
await store.createIndex({ indexName: "angles", dimension: 2 });
found.otherDimension = await refusal(store.createIndex({ indexName, dimension: 4, metric: "euclidean" }));
found.otherMetric = await refusal(store.createIndex({ indexName, dimension: 3, metric: "dotproduct" }));
found.indexes = await store.listIndexes();
found.angles = await store.describeIndex({ indexName: "angles" });

const since = new Date(Date.UTC(2025, 0, 1));
const seen = [
  { name: "whimbrel", bill: 9, wader: true, seen: new Date(Date.UTC(2024, 5, 1)), tags: ["long", "curved"] },
  { name: "curlew", bill: 14, wader: true, seen: new Date(Date.UTC(2026, 5, 1)), tags: ["long"] },
  { name: "sparrow", bill: 1, wader: false, seen: new Date(Date.UTC(2026, 6, 1)), note: "in the yard" },
];
found.upserted = await store.upsert({
  indexName,
  vectors: [[1, 0, 0], [0, 2, 0], [0, 0, 3]],
  metadata: seen,
  ids: ["w", "c", "s"],
});
// Without ids it makes them up.
[made] = await store.upsert({ indexName, vectors: [[9, 9, 9]] });
found.madeId = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(made);
found.shortVector = await refusal(store.upsert({ indexName, vectors: [[1, 2]] }));
found.description = await store.describeIndex({ indexName });

const queryVector = [0, 0, 0];
found.nearest = await store.query({ indexName, queryVector, topK: 2, includeVector: true });
const filters = {
  equal: { name: "curlew" },
  both: { wader: true, bill: { $gt: 9 } },
  range: { bill: { $gte: 9, $lt: 14 } },
  unequal: { name: { $ne: "curlew" } },
  in: { name: { $in: ["curlew", "sparrow"] } },
  notIn: { name: { $nin: ["curlew", "sparrow"] } },
  exists: { tags: { $exists: true } },
  missing: { tags: { $exists: false } },
  member: { tags: "curved" },
  either: { $or: [{ bill: { $lte: 1 } }, { $and: [{ wader: true }, { bill: 9 }] }] },
  since: { seen: { $gte: since } },
  none: {},
};
found.filtered = {};
for (const [name, filter] of Object.entries(filters)) {
  found.filtered[name] = ids(await store.query({ indexName, queryVector, filter }));
}
found.ownFilterError = await refusal(store.query({ indexName, queryVector, filter: { name: { $regex: "c" } } }));
found.hiddenKey = await refusal(store.query({ indexName, queryVector, filter: { note: "in the yard" } }));
found.noVector = await refusal(store.query({ indexName }));

await store.updateVector({ indexName, id: "w", update: { metadata: { name: "hudsonian", since } } });
await store.updateVector({ indexName, id: "c", update: { vector: [0, 0, 0.5] } });
found.updated = await store.query({ indexName, queryVector, topK: 2, includeVector: true });
found.unknownUpdate = await refusal(store.updateVector({ indexName, id: "x", update: { metadata: { a: 1 } } }));
await store.deleteVector({ indexName, id: "s" });
await store.deleteVector({ indexName, id: "never there" });
found.left = ids(await store.query({ indexName, queryVector }));
found.deleteMany = await refusal(store.deleteVectors({ indexName, ids: ["w"] }));

// More than a page of a listing, and more than a page of a query.
for (let start = 0; start < 1200; start += 400) {
  const numbers = Array.from({ length: 400 }, (_, i) => start + i);
  await store.upsert({
    indexName: "angles",
    vectors: numbers.map((number) => [1, number]),
    ids: numbers.map(String),
    metadata: numbers.map((number) => ({ number })),
  });
}
found.counted = await store.describeIndex({ indexName: "angles" });
found.hundredAndFifty = (await store.query({ indexName: "angles", queryVector: [1, 0], topK: 150 })).length;
found.zeroVector = await refusal(store.upsert({ indexName: "angles", vectors: [[0, 0]], ids: ["zero"] }));

await store.deleteIndex({ indexName });
await store.deleteIndex({ indexName: "angles" });
found.unknownIndex = await refusal(store.describeIndex({ indexName }));
found.unknownQuery = await refusal(store.query({ indexName, queryVector }));
await client.deleteVectorBucket({ vectorBucketName });
found.unknownBucket = await refusal(store.listIndexes());
await store.disconnect();
client.destroy();

const methods = Object.getOwnPropertyNames(S3Vectors.prototype);
found.methods = methods.filter((name) => typeof store[name] === "function" && name !== "constructor").sort();
console.log(JSON.stringify(found));
