//! Tells the story of tests/clients/sdk_story.py with the AWS SDK for Rust: one line of JSON per step.

use std::collections::HashMap;
use std::error::Error;

use aws_config::BehaviorVersion;
use aws_sdk_s3vectors::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3vectors::types::error::{ConflictException, NotFoundException, ValidationException};
use aws_sdk_s3vectors::types::{
    DataType, DistanceMetric, GetOutputVector, MetadataConfiguration, PutInputVector, VectorData,
};
use aws_sdk_s3vectors::Client;
use aws_smithy_types::{DateTime, Document, Number};
use serde_json::{json, Value};

const RECORD_COUNT: usize = 250;
const WIDE_DIMENSION: usize = 1024;
const WIDE_COUNT: usize = 500;
const BITS: [u32; 9] = [
    0x7f7fffff, 0xff7fffff, 0x00800000, 0x00000001, 0x3dcccccd, 0x3eaaaaab, 0x4b800001, 0x80000000, 0x3f800001,
];

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

struct Story {
    client: Client,
    bucket: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await;
    let bucket = std::env::args().nth(1).ok_or("the name of a bucket is missing")?;
    let story = Story { client: Client::new(&config), bucket };
    story.buckets().await?;
    story.indexes().await?;
    story.records().await?;
    story.queries().await?;
    story.lists().await?;
    story.documents().await?;
    story.refused_documents().await?;
    story.floats().await?;
    story.not_finite().await?;
    story.wide().await?;
    story.errors().await?;
    story.policies().await?;
    story.tags().await?;
    story.modes().await?;
    story.deletions().await
}

impl Story {
    async fn buckets(&self) -> Outcome {
        for name in [self.bucket.clone(), format!("{}-2", self.bucket)] {
            let made = self.client.create_vector_bucket().vector_bucket_name(&name).tags("made-by", "sdk").send().await?;
            emit(&format!("create bucket {name}"), json!({"arn": made.vector_bucket_arn()}));
        }
        let got = self.client.get_vector_bucket().vector_bucket_name(&self.bucket).send().await?;
        let bucket = got.vector_bucket().ok_or("no bucket")?;
        let encryption = bucket.encryption_configuration().ok_or("no encryption")?;
        emit("get bucket", json!({
            "name": bucket.vector_bucket_name(),
            "arn": bucket.vector_bucket_arn(),
            "created": seconds(bucket.creation_time()),
            "sse": encryption.sse_type().as_str(),
        }));
        let mut pages = self.client.list_vector_buckets().prefix(&self.bucket).into_paginator().page_size(1).send();
        let mut names = vec![];
        while let Some(page) = pages.next().await {
            names.extend(page?.vector_buckets().iter().map(|found| found.vector_bucket_name().to_string()));
        }
        emit("list buckets", json!({ "names": names }));
        Ok(())
    }

    async fn indexes(&self) -> Outcome {
        for (name, dimension) in [("birds", 3), ("wide", WIDE_DIMENSION)] {
            let hidden = MetadataConfiguration::builder().non_filterable_metadata_keys("note").build()?;
            let made = self
                .client
                .create_index()
                .vector_bucket_name(&self.bucket)
                .index_name(name)
                .data_type(DataType::Float32)
                .dimension(dimension as i32)
                .distance_metric(DistanceMetric::Euclidean)
                .metadata_configuration(hidden)
                .tags("index", name)
                .send()
                .await?;
            emit(&format!("create index {name}"), json!({"arn": made.index_arn()}));
        }
        let got = self.client.get_index().vector_bucket_name(&self.bucket).index_name("birds").send().await?;
        let index = got.index().ok_or("no index")?;
        let metadata = index.metadata_configuration().ok_or("no metadata configuration")?;
        emit("get index", json!({
            "name": index.index_name(),
            "bucket": index.vector_bucket_name(),
            "arn": index.index_arn(),
            "created": seconds(index.creation_time()),
            "data_type": index.data_type().as_str(),
            "dimension": index.dimension(),
            "metric": index.distance_metric().as_str(),
            "non_filterable": metadata.non_filterable_metadata_keys(),
        }));
        let mut pages = self.client.list_indexes().vector_bucket_name(&self.bucket).into_paginator().page_size(1).send();
        let mut names = vec![];
        while let Some(page) = pages.next().await {
            names.extend(page?.indexes().iter().map(|found| found.index_name().to_string()));
        }
        emit("list indexes", json!({ "names": names }));
        Ok(())
    }

    async fn records(&self) -> Outcome {
        let mut vectors = vec![];
        for i in 0..RECORD_COUNT {
            let metadata = object([
                ("n", (i as u64).into()),
                ("even", (i % 2 == 0).into()),
                ("name", format!("bird {}", key(i)).into()),
            ]);
            vectors.push(record(&key(i), &[i as f32, 0.0, 0.0], Some(metadata))?);
        }
        let count = vectors.len();
        self.put("birds", vectors).await?;
        emit("put", json!({ "count": count }));
        let got = self.get("birds", &[key(7), "missing".into()]).await?;
        let keys: Vec<_> = got.iter().map(|vector| vector.key()).collect();
        emit("get", json!({"keys": keys, "data": floats_of(&got[0])?, "metadata": plain(got[0].metadata())}));
        Ok(())
    }

    async fn queries(&self) -> Outcome {
        let filter = object([(
            "$and",
            Document::Array(vec![
                object([("even", true.into())]),
                object([("n", object([("$gte", 100u64.into())]))]),
            ]),
        )]);
        let query = || {
            self.client
                .query_vectors()
                .vector_bucket_name(&self.bucket)
                .index_name("birds")
                .query_vector(VectorData::Float32(vec![0.0; 3]))
        };
        let answer = query().top_k(3).filter(filter).return_distance(true).return_metadata(true).send().await?;
        let hits = answer.vectors();
        emit("query", json!({
            "keys": hits.iter().map(|hit| hit.key()).collect::<Vec<_>>(),
            "distances": hits.iter().map(|hit| hit.distance()).collect::<Vec<_>>(),
            "metadata": hits.iter().map(|hit| plain(hit.metadata())).collect::<Vec<_>>(),
            "metric": answer.distance_metric().map(|metric| metric.as_str()),
        }));
        let mut pages = query().top_k(RECORD_COUNT as i32).into_paginator().send();
        let (mut sizes, mut keys) = (vec![], vec![]);
        while let Some(page) = pages.next().await {
            let page = page?;
            sizes.push(page.vectors().len());
            keys.extend(page.vectors().iter().map(|hit| hit.key().to_string()));
        }
        emit("query pages", json!({"sizes": sizes, "keys": keys}));
        Ok(())
    }

    async fn lists(&self) -> Outcome {
        let list = || self.client.list_vectors().vector_bucket_name(&self.bucket).index_name("birds");
        let mut pages = list().into_paginator().page_size(100).send();
        let (mut sizes, mut keys) = (vec![], vec![]);
        while let Some(page) = pages.next().await {
            let page = page?;
            sizes.push(page.vectors().len());
            keys.extend(page.vectors().iter().map(|found| found.key().to_string()));
        }
        emit("list pages", json!({"sizes": sizes, "keys": keys}));
        let mut segments = vec![];
        for i in 0..4 {
            let mut items = list().segment_count(4).segment_index(i).into_paginator().items().send();
            let mut keys = vec![];
            while let Some(item) = items.next().await {
                keys.push(item?.key().to_string());
            }
            segments.push(keys);
        }
        emit("list segments", json!({ "segments": segments }));
        Ok(())
    }

    async fn documents(&self) -> Outcome {
        let document = object([
            ("integer", 7u64.into()),
            ("negative", (-3i64).into()),
            ("half", 0.5.into()),
            ("tiny", 5e-324.into()),
            ("huge", 1e300.into()),
            ("beyond", 9007199254740993u64.into()),
            ("flag", true.into()),
            ("no", false.into()),
            ("text", "Großer Brachvogel 鷸 🐦 \"\\\n\u{2028}".to_string().into()),
            ("ключ", "key".to_string().into()),
            ("words", vec![text("a"), text("b")].into()),
            ("numbers", vec![1u64.into(), 2.5.into()].into()),
            ("note", text("not for filters")),
        ]);
        self.put("birds", vec![record("document", &[1.0; 3], Some(document))?]).await?;
        let got = self.get("birds", &["document".into()]).await?;
        emit("document", json!({"metadata": plain(got[0].metadata())}));
        self.put("birds", vec![record("bare", &[1.0; 3], None)?]).await?;
        let got = self.get("birds", &["bare".into()]).await?;
        emit("no document", json!({"metadata": plain(got[0].metadata())}));
        Ok(())
    }

    async fn refused_documents(&self) -> Outcome {
        let cases = [
            ("nested", object([("a", object([("b", 1u64.into())]))])),
            ("null", object([("a", Document::Null)])),
            ("null in array", object([("a", vec![text("x"), Document::Null].into())])),
            ("empty array", object([("a", Document::Array(vec![]))])),
            ("array", Document::Array(vec![1u64.into()])),
            ("text", text("x")),
            ("number", 1u64.into()),
            ("NaN", object([("a", f64::NAN.into())])),
        ];
        for (name, document) in cases {
            let put = self.put("birds", vec![record("refused", &[1.0; 3], Some(document))?]).await;
            emit_error(&format!("refused document {name}"), put);
        }
        Ok(())
    }

    async fn floats(&self) -> Outcome {
        let mut bits = vec![];
        for three in BITS.chunks(3) {
            let sent: Vec<f32> = three.iter().map(|word| f32::from_bits(*word)).collect();
            self.put("birds", vec![record("floats", &sent, None)?]).await?;
            let got = self.get("birds", &["floats".into()]).await?;
            bits.extend(floats_of(&got[0])?.iter().map(|value| value.to_bits()));
        }
        emit("floats", json!({ "bits": bits }));
        Ok(())
    }

    async fn not_finite(&self) -> Outcome {
        for (name, value) in [("NaN", f32::NAN), ("Infinity", f32::INFINITY), ("-Infinity", f32::NEG_INFINITY)] {
            let data = vec![0.0, value, 0.0];
            emit_error(&format!("put {name}"), self.put("birds", vec![record("refused", &data, None)?]).await);
            let query = self
                .client
                .query_vectors()
                .vector_bucket_name(&self.bucket)
                .index_name("birds")
                .query_vector(VectorData::Float32(data))
                .top_k(1);
            emit_error(&format!("query {name}"), query.send().await);
        }
        Ok(())
    }

    async fn wide(&self) -> Outcome {
        let mut vectors = vec![];
        for i in 0..WIDE_COUNT {
            let data: Vec<f32> = (0..WIDE_DIMENSION).map(|j| i as f32 + j as f32 / WIDE_DIMENSION as f32).collect();
            vectors.push(record(&key(i), &data, None)?);
        }
        self.put("wide", vectors).await?;
        let got = self.get("wide", &[key(499)]).await?;
        let data = floats_of(&got[0])?;
        emit("wide", json!({"first": data[0], "last": data[WIDE_DIMENSION - 1], "count": data.len()}));
        Ok(())
    }

    async fn errors(&self) -> Outcome {
        let client = &self.client;
        let bucket = &self.bucket;
        emit_error("unknown bucket", client.get_vector_bucket().vector_bucket_name("no-such-bucket").send().await);
        emit_error("unknown index", client.get_index().vector_bucket_name(bucket).index_name("missing").send().await);
        emit_error("bucket again", client.create_vector_bucket().vector_bucket_name(bucket).send().await);
        emit_error("bucket not empty", client.delete_vector_bucket().vector_bucket_name(bucket).send().await);
        let refused = client
            .create_index()
            .vector_bucket_name(bucket)
            .index_name("refused")
            .data_type(DataType::Float32)
            .dimension(5000)
            .distance_metric("angular".into());
        emit_error("two fields", refused.send().await);
        emit_error("wrong dimension", self.put("birds", vec![record("k", &[1.0], None)?]).await);
        Ok(())
    }

    async fn policies(&self) -> Outcome {
        let get = || self.client.get_vector_bucket_policy().vector_bucket_name(&self.bucket);
        emit_error("no policy", get().send().await);
        let policy = concat!(
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","#,
            r#""Action":"s3vectors:*","Resource":"*"}]}"#
        );
        self.client.put_vector_bucket_policy().vector_bucket_name(&self.bucket).policy(policy).send().await?;
        emit("policy", json!({"policy": get().send().await?.policy()}));
        self.client.delete_vector_bucket_policy().vector_bucket_name(&self.bucket).send().await?;
        emit_error("policy deleted", get().send().await);
        Ok(())
    }

    async fn tags(&self) -> Outcome {
        let bucket = self.client.get_vector_bucket().vector_bucket_name(&self.bucket).send().await?;
        let bucket_arn = bucket.vector_bucket().ok_or("no bucket")?.vector_bucket_arn();
        let index = self.client.get_index().vector_bucket_name(&self.bucket).index_name("birds").send().await?;
        let index_arn = index.index().ok_or("no index")?.index_arn();
        for (name, arn) in [("bucket", bucket_arn), ("index", index_arn)] {
            self.list_tags(&format!("tags {name}"), arn).await?;
            let added = self.client.tag_resource().resource_arn(arn);
            added.tags("plain", "1").tags("a b/c+d=é:@", "ü = more/+").tags("third", "").send().await?;
            self.list_tags(&format!("tags added {name}"), arn).await?;
            let removed = self.client.untag_resource().resource_arn(arn);
            removed.tag_keys("plain").tag_keys("a b/c+d=é:@").send().await?;
            self.list_tags(&format!("tags removed {name}"), arn).await?;
        }
        Ok(())
    }

    async fn list_tags(&self, step: &str, arn: &str) -> Outcome {
        let got = self.client.list_tags_for_resource().resource_arn(arn).send().await?;
        emit(step, json!({"tags": got.tags()}));
        Ok(())
    }

    /// What the SDKs of other languages do not know yet.
    async fn modes(&self) -> Outcome {
        let set = self.client.put_vector_bucket_default_index_mode().vector_bucket_name(&self.bucket);
        set.default_index_mode("ENHANCED".into()).send().await?;
        let got = self.client.get_vector_bucket().vector_bucket_name(&self.bucket).send().await?;
        let default_mode = got.vector_bucket().ok_or("no bucket")?.default_index_mode();
        let update = self.client.update_index_mode().vector_bucket_name(&self.bucket).index_name("birds");
        update.index_mode("ENHANCED".into()).send().await?;
        let got = self.client.get_index().vector_bucket_name(&self.bucket).index_name("birds").send().await?;
        let mode = got.index().ok_or("no index")?.index_mode();
        emit("modes", json!({"bucket": default_mode.map(|m| m.as_str()), "index": mode.map(|m| m.as_str())}));
        Ok(())
    }

    async fn deletions(&self) -> Outcome {
        let delete = self.client.delete_vectors().vector_bucket_name(&self.bucket).index_name("birds");
        delete.keys(key(0)).keys(key(1)).keys("missing").send().await?;
        let got = self.get("birds", &[key(0), key(1), key(2)]).await?;
        emit("delete", json!({"left": got.iter().map(|vector| vector.key()).collect::<Vec<_>>()}));
        for name in ["birds", "wide"] {
            self.client.delete_index().vector_bucket_name(&self.bucket).index_name(name).send().await?;
        }
        for name in [self.bucket.clone(), format!("{}-2", self.bucket)] {
            self.client.delete_vector_bucket().vector_bucket_name(name).send().await?;
        }
        emit_error("bucket deleted", self.client.get_vector_bucket().vector_bucket_name(&self.bucket).send().await);
        Ok(())
    }

    async fn put(
        &self,
        index: &str,
        vectors: Vec<PutInputVector>,
    ) -> Result<(), SdkError<aws_sdk_s3vectors::operation::put_vectors::PutVectorsError>> {
        let put = self.client.put_vectors().vector_bucket_name(&self.bucket).index_name(index);
        put.set_vectors(Some(vectors)).send().await.map(|_| ())
    }

    async fn get(&self, index: &str, keys: &[String]) -> Outcome<Vec<GetOutputVector>> {
        let get = self.client.get_vectors().vector_bucket_name(&self.bucket).index_name(index);
        let get = get.set_keys(Some(keys.to_vec())).return_data(true).return_metadata(true);
        Ok(get.send().await?.vectors)
    }
}

fn key(i: usize) -> String {
    format!("k{i:03}")
}

fn text(value: &str) -> Document {
    value.to_string().into()
}

fn object<const N: usize>(members: [(&str, Document); N]) -> Document {
    Document::Object(members.into_iter().map(|(name, value)| (name.to_string(), value)).collect::<HashMap<_, _>>())
}

fn record(key: &str, data: &[f32], metadata: Option<Document>) -> Outcome<PutInputVector> {
    let vector = PutInputVector::builder().key(key).data(VectorData::Float32(data.to_vec()));
    Ok(vector.set_metadata(metadata).build()?)
}

fn floats_of(vector: &GetOutputVector) -> Outcome<&Vec<f32>> {
    vector.data().and_then(|data| data.as_float32().ok()).ok_or_else(|| "no data".into())
}

fn seconds(at: &DateTime) -> f64 {
    at.as_secs_f64()
}

fn plain(document: Option<&Document>) -> Value {
    match document {
        None | Some(Document::Null) => Value::Null,
        Some(Document::Bool(value)) => json!(value),
        Some(Document::String(value)) => json!(value),
        Some(Document::Number(Number::PosInt(value))) => json!(value),
        Some(Document::Number(Number::NegInt(value))) => json!(value),
        Some(Document::Number(Number::Float(value))) => json!(value),
        Some(Document::Array(values)) => values.iter().map(|value| plain(Some(value))).collect(),
        Some(Document::Object(members)) => {
            members.iter().map(|(name, value)| (name.clone(), plain(Some(value)))).collect()
        }
    }
}

fn emit(step: &str, mut found: Value) {
    found["step"] = json!(step);
    println!("{found}");
}

/// Reports a refusal as the type of the SDK that it is, so that a code without its type shows.
fn emit_error<T, E>(step: &str, outcome: Result<T, SdkError<E>>)
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let Err(error) = outcome else {
        return emit(step, json!({"error": null, "message": ""}));
    };
    let Some(refusal) = error.as_service_error() else {
        return emit(step, json!({"error": null, "message": error.to_string()}));
    };
    let source = refusal.source();
    let is_plain = source.is_some_and(|it| it.is::<NotFoundException>() || it.is::<ConflictException>());
    let validation = source.and_then(|it| it.downcast_ref::<ValidationException>());
    let is_typed = is_plain || validation.is_some();
    let mut found = json!({"error": refusal.code(), "message": refusal.message(), "typed": is_typed});
    if let Some(validation) = validation {
        let fields = validation.field_list().iter();
        found["fields"] = fields.map(|field| json!({"path": field.path(), "message": field.message()})).collect();
    }
    emit(step, found);
}
