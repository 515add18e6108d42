// Puts vectors at once, each in a request of its own, and prints how often each had to be tried. Twelve, as the SDK
// stops trying again when too many of its requests failed.
import { S3Vectors } from "@aws-sdk/client-s3vectors";

const vectorBucketName = process.argv[2];
const index = { vectorBucketName, indexName: "crowd" };
const client = new S3Vectors({ maxAttempts: 10 });
await client.createVectorBucket({ vectorBucketName });
await client.createIndex({ ...index, dataType: "float32", dimension: 2, distanceMetric: "euclidean" });
const puts = Array.from({ length: 12 }, (_, i) =>
  client.putVectors({ ...index, vectors: [{ key: `k${i}`, data: { float32: [i, 1] } }] }),
);
const attempts = (await Promise.all(puts)).map((answer) => answer.$metadata.attempts);
const { vectors } = await client.listVectors(index);
console.log(JSON.stringify({ attempts, count: vectors.length }));
client.destroy();
