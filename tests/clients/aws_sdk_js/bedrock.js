// Embeds texts through Bedrock's InvokeModel and lists the models that can: prints one JSON document.
import { BedrockClient, GetFoundationModelCommand, ListFoundationModelsCommand } from "@aws-sdk/client-bedrock";
import { BedrockRuntimeClient, InvokeModelCommand, ValidationException } from "@aws-sdk/client-bedrock-runtime";

const TITAN = "amazon.titan-embed-text-v2:0";
const COHERE = "cohere.embed-multilingual-v3";

const runtime = new BedrockRuntimeClient({});
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
    details: [modelDetails.modelId, modelDetails.outputModalities],
  }),
);
