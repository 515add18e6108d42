// The AWS SDK for JavaScript without an endpoint, and fetch, both through the proxy that `whimbrel run` names.
import assert from "node:assert/strict";

import {
  CreateIndexCommand,
  CreateVectorBucketCommand,
  DeleteIndexCommand,
  DeleteVectorBucketCommand,
  NotFoundException,
  PutVectorsCommand,
  QueryVectorsCommand,
  S3VectorsClient,
} from "@aws-sdk/client-s3vectors";
import { NodeHttpHandler } from "@smithy/node-http-handler";
import { HttpsProxyAgent } from "https-proxy-agent";
import { EnvHttpProxyAgent, fetch, setGlobalDispatcher } from "undici";

const passed = [];

async function check(name, test) {
  await test();
  passed.push(name);
}

const place = { vectorBucketName: "aws-sdk-js-run", indexName: "birds" };
const client = new S3VectorsClient({
  requestHandler: new NodeHttpHandler({ httpsAgent: new HttpsProxyAgent(process.env.HTTPS_PROXY) }),
});
const hosts = new Set();
client.middlewareStack.add(
  (next) => (args) => {
    hosts.add(`${args.request.protocol}//${args.request.hostname}`);
    return next(args);
  },
  { step: "finalizeRequest" },
);

await check("write and query", async () => {
  await client.send(new CreateVectorBucketCommand({ vectorBucketName: place.vectorBucketName }));
  await client.send(
    new CreateIndexCommand({ ...place, dataType: "float32", dimension: 2, distanceMetric: "cosine" }),
  );
  const vectors = Array.from({ length: 500 }, (_, i) => ({ key: `k${i}`, data: { float32: [1, i / 500] } }));
  await client.send(new PutVectorsCommand({ ...place, vectors }));
  const answer = await client.send(
    new QueryVectorsCommand({ ...place, topK: 3, queryVector: { float32: [1, 0] } }),
  );
  assert.deepEqual(answer.vectors.map((each) => each.key), ["k0", "k1", "k2"]);
});

await check("many at once", async () => {
  const query = new QueryVectorsCommand({ ...place, topK: 1, queryVector: { float32: [1, 0] } });
  const answers = await Promise.all(Array.from({ length: 40 }, () => client.send(query)));
  assert.ok(answers.every((each) => each.vectors[0].key === "k0"));
});

await check("typed errors", async () => {
  const missing = new QueryVectorsCommand({
    ...place, indexName: "nothing", topK: 1, queryVector: { float32: [1, 0] },
  });
  await assert.rejects(client.send(missing), NotFoundException);
  await client.send(new DeleteIndexCommand(place));
  await client.send(new DeleteVectorBucketCommand({ vectorBucketName: place.vectorBucketName }));
});

await check("AWS's own host", async () => {
  assert.equal(hosts.size, 1);
  assert.match([...hosts][0], /^https:\/\/s3vectors\.us-east-1\.(api\.aws|amazonaws\.com)$/);
});

setGlobalDispatcher(new EnvHttpProxyAgent());

await check("fetch", async () => {
  const answer = await fetch("https://s3vectors.us-east-1.api.aws/ListVectorBuckets", { method: "POST", body: "{}" });
  assert.equal(answer.status, 403);
  assert.equal(answer.headers.get("x-amzn-errortype"), "MissingAuthenticationTokenException");
});

await check("fetch of another host", async () => {
  await assert.rejects(fetch("https://example.invalid/"), (error) => /403/.test(error.cause.cause.message));
});

console.log(JSON.stringify(passed));
