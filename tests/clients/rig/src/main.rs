//! Uses Rig's vector store for S3 Vectors with documents that it can store and some that it cannot, and prints one
//! JSON document with what came of it. A stand-in for a model embeds: the names of three birds, and nothing else.

use std::error::Error;

use aws_config::BehaviorVersion;
use aws_sdk_s3vectors::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3vectors::operation::put_vectors::PutVectorsError;
use aws_sdk_s3vectors::operation::query_vectors::QueryVectorsError;
use aws_sdk_s3vectors::types::{DataType, DistanceMetric, MetadataConfiguration};
use aws_sdk_s3vectors::Client;
use aws_smithy_types::Document;
use rig_core::driver::{Exchange, Local, Model, Opened, Opening, Step, Transport};
use rig_core::embeddings::{EmbedError, Embedding, EmbeddingResponse, EmbeddingsBuilder, TextEmbedder};
use rig_core::error::ProviderError;
use rig_core::markers::Provided;
use rig_core::operation::Embedding as EmbeddingOp;
use rig_core::vector_store::request::{SearchFilter, VectorSearchRequest, VectorSearchRequestBuilder};
use rig_core::vector_store::{InsertDocuments, VectorStoreError, VectorStoreIndex};
use rig_core::wire::Capabilities;
use rig_core::Embed;
use rig_s3vectors::{S3SearchFilter, S3VectorsVectorStore};
use serde::Serialize;
use serde_json::{json, Value};

const INDEX: &str = "birds";
const DIMENSION: usize = 3;

#[derive(Clone)]
struct Birdwatcher;

impl Transport<Local<EmbeddingOp>> for Birdwatcher {
    fn send(&self, texts: Vec<String>, _exchange: Exchange) -> Opening<Step<EmbeddingOp>> {
        let embeddings = texts.into_iter().map(|document| Embedding { vec: embed(&document), document }).collect();
        let end = Step::End(EmbeddingResponse::new(embeddings));
        Opening::ready(Opened::new(futures::stream::iter([Ok::<_, ProviderError>(end)])))
    }
}

fn embed(text: &str) -> Vec<f64> {
    match text {
        "whimbrel" => vec![1.0, 0.0, 0.0],
        "curlew" => vec![0.0, 2.0, 0.0],
        "sparrow" => vec![0.0, 0.0, 3.0],
        _ => vec![0.0; DIMENSION],
    }
}

/// A document that is a number, with a name to embed.
#[derive(Clone)]
struct Bill {
    centimetres: f64,
    name: String,
}

impl Serialize for Bill {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.centimetres.serialize(serializer)
    }
}

impl Embed for Bill {
    fn embed(&self, embedder: &mut TextEmbedder) -> Result<(), EmbedError> {
        embedder.embed(self.name.clone());
        Ok(())
    }
}

/// A document as most are: an object.
#[derive(Clone, Serialize, Embed)]
struct Bird {
    #[embed]
    name: String,
    wader: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let bucket = std::env::args().nth(1).ok_or("the name of a bucket is missing")?;
    let client = Client::new(&aws_config::load_defaults(BehaviorVersion::latest()).await);
    make_index(&client, &bucket).await?;
    let wire = Local::<EmbeddingOp>::new("birdwatcher").with_capabilities(Capabilities::embedding(8, DIMENSION));
    let model = Model::new(wire, Birdwatcher).erase();
    let store = S3VectorsVectorStore::new(model.clone(), client.clone(), &bucket, INDEX);
    let mut found = json!({"bucket": store.bucket_name() == bucket, "index": store.index_name()});

    let bills = [("whimbrel", 9.0), ("curlew", 14.5), ("sparrow", 1.0)];
    let mut builder = EmbeddingsBuilder::new(model.clone());
    for (name, centimetres) in bills {
        builder = builder.document(Bill { centimetres, name: name.into() })?;
    }
    store.insert_documents(builder.build().await?).await?;

    found["nearest"] = results(&store, request("anything", 2)).await?;
    found["exact"] = results(&store, request("curlew", 1)).await?;
    let hits = store.top_n_ids(request("anything", 3).build()).await?;
    found["ids"] = json!({
        "scores": hits.iter().map(|hit| hit.score).collect::<Vec<_>>(),
        "lengths": hits.iter().map(|hit| hit.id.len()).collect::<Vec<_>>(),
    });
    let above = request("anything", 3).threshold(2.0);
    found["threshold"] = results(&store, above).await?;

    let filters = [
        ("equal", S3SearchFilter::eq("embedded_text", text("curlew"))),
        ("above", S3SearchFilter::gt("document", number(9.0))),
        ("below", S3SearchFilter::lt("document", number(9.0))),
        ("from", S3SearchFilter::gte("document", number(9.0))),
        ("upTo", S3SearchFilter::lte("document", number(9.0))),
        (
            "both",
            S3SearchFilter::gte("document", number(9.0)).and(S3SearchFilter::lt("document", number(10.0))),
        ),
        (
            "either",
            S3SearchFilter::eq("embedded_text", text("sparrow"))
                .or(S3SearchFilter::eq("embedded_text", text("curlew"))),
        ),
    ];
    for (name, filter) in filters {
        found["filtered"][name] = results(&store, request("anything", 3).filter(filter)).await?;
    }
    let refused = [
        ("exists", S3SearchFilter::exists("document")),
        ("not", S3SearchFilter::eq("embedded_text", text("curlew")).not()),
    ];
    for (name, filter) in refused {
        let outcome = store.top_n::<Value>(request("anything", 3).filter(filter).build()).await;
        found["refused"][name] = refusal(outcome.err());
    }

    let bird = Bird { name: "whimbrel".into(), wader: true };
    let document = EmbeddingsBuilder::new(model.clone()).document(bird)?.build().await?;
    found["refused"]["object"] = refusal(store.insert_documents(document).await.err());

    let mut many = vec![];
    for i in 0..150 {
        let bill = Bill { centimetres: f64::from(i), name: "many".into() };
        many.push((bill, vec![Embedding { document: "many".into(), vec: vec![f64::from(i), 0.0, 0.0] }]));
    }
    store.insert_documents(many).await?;
    found["hundredAndFifty"] = json!(store.top_n_ids(request("anything", 150).build()).await?.len());

    let missing = S3VectorsVectorStore::new(model, client.clone(), &bucket, "missing");
    found["refused"]["index"] = refusal(missing.top_n_ids(request("anything", 1).build()).await.err());
    client.delete_index().vector_bucket_name(&bucket).index_name(INDEX).send().await?;
    client.delete_vector_bucket().vector_bucket_name(&bucket).send().await?;
    println!("{found}");
    Ok(())
}

async fn make_index(client: &Client, bucket: &str) -> Result<(), Box<dyn Error>> {
    client.create_vector_bucket().vector_bucket_name(bucket).send().await?;
    client
        .create_index()
        .vector_bucket_name(bucket)
        .index_name(INDEX)
        .data_type(DataType::Float32)
        .dimension(DIMENSION as i32)
        .distance_metric(DistanceMetric::Euclidean)
        .metadata_configuration(MetadataConfiguration::builder().non_filterable_metadata_keys("note").build()?)
        .send()
        .await?;
    Ok(())
}

type Request = VectorSearchRequestBuilder<S3SearchFilter, Provided<String>, Provided<u64>>;

fn request(query: &str, samples: u64) -> Request {
    VectorSearchRequest::builder().query(query).samples(samples)
}

async fn results(store: &S3VectorsVectorStore, request: Request) -> Result<Value, Box<dyn Error>> {
    let hits = store.top_n::<Value>(request.build()).await?;
    Ok(hits.into_iter().map(|hit| json!({"score": hit.score, "document": hit.document})).collect())
}

fn text(value: &str) -> Document {
    Document::String(value.into())
}

fn number(value: f64) -> Document {
    value.into()
}

/// Reports a refusal as the operation's error that is wrapped in Rig's.
fn refusal(error: Option<VectorStoreError>) -> Value {
    let Some(VectorStoreError::DatastoreError(error)) = error else {
        return Value::Null;
    };
    let service = match error.downcast_ref::<SdkError<PutVectorsError>>() {
        Some(error) => error.as_service_error().map(|it| (it.code(), it.message())),
        None => error
            .downcast_ref::<SdkError<QueryVectorsError>>()
            .and_then(|error| error.as_service_error().map(|it| (it.code(), it.message()))),
    };
    match service {
        Some((code, message)) => json!({"error": code, "message": message}),
        None => json!({"error": null, "message": DisplayErrorContext(error.as_ref()).to_string()}),
    }
}
