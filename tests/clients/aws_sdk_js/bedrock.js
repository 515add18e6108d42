// Embeds texts through Bedrock's InvokeModel and lists the models that can: prints one JSON document.
// The runtime's client speaks HTTP/2 unless it is told otherwise, which a server of HTTP/1.1 refuses.
import { BedrockClient, GetFoundationModelCommand, ListFoundationModelsCommand } from "@aws-sdk/client-bedrock";
import { BedrockRuntimeClient, InvokeModelCommand, ValidationException } from "@aws-sdk/client-bedrock-runtime";
import { NodeHttpHandler } from "@smithy/node-http-handler";

const TITAN = "amazon.titan-embed-text-v2:0";
const COHERE = "cohere.embed-multilingual-v3";

const runtime = new BedrockRuntimeClient({ requestHandler: new NodeHttpHandler() });
const control = new BedrockClient({});

async function invoke(modelId, document) {
  const command = new InvokeModelCommand({
    modelId,
    body: JSON.stringify(document),
    contentType: "application/json",
    accept: "application/json",
  });
  return JSON.parse(new TextDecoder().decode((await runtime.send(command)).body));
}

async function codeOverHttp2() {
  const command = new InvokeModelCommand({ modelId: TITAN, body: JSON.stringify({ inputText: "x" }) });
  return new BedrockRuntimeClient({}).send(command).then(() => null, ({ code }) => code);
}

async function refusal(modelId, document) {
  try {
    await invoke(modelId, document);
    return null;
  } catch (error) {
    return { typed: error instanceof ValidationException, name: error.name, message: error.message };
  }
}

const dot = (one, other) => one.reduce((sum, value, place) => sum + value * other[place], 0);

const texts = ["a whimbrel wades on the shore", "birds that walk in shallow water", "an oven for bread"];
const [shore, birds, oven] = await Promise.all(
  texts.map(async (inputText) => (await invoke(TITAN, { inputText, dimensions: 512 })).embedding),
);
const many = (await invoke(COHERE, { texts, input_type: "search_document" })).embeddings;
const { modelSummaries } = await control.send(new ListFoundationModelsCommand({ byProvider: "Cohere" }));
const { modelDetails } = await control.send(new GetFoundationModelCommand({ modelIdentifier: TITAN }));
console.log(
  JSON.stringify({
    dimension: shore.length,
    near: dot(shore, birds),
    far: dot(shore, oven),
    many: many.map((vector) => vector.length),
    unknown: await refusal("no.such-model", { inputText: "x" }),
    empty: await refusal(TITAN, { inputText: "" }),
    listed: modelSummaries.map(({ modelId }) => modelId),
    http2: await codeOverHttp2(),
    details: [modelDetails.modelId, modelDetails.outputModalities],
  }),
);
