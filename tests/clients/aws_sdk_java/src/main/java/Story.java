import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletionException;
import java.util.stream.IntStream;
import software.amazon.awssdk.core.document.Document;
import software.amazon.awssdk.http.Protocol;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.services.s3vectors.S3VectorsAsyncClient;
import software.amazon.awssdk.services.s3vectors.S3VectorsClient;
import software.amazon.awssdk.services.s3vectors.model.ConflictException;
import software.amazon.awssdk.services.s3vectors.model.DataType;
import software.amazon.awssdk.services.s3vectors.model.DistanceMetric;
import software.amazon.awssdk.services.s3vectors.model.GetOutputVector;
import software.amazon.awssdk.services.s3vectors.model.ListVectorsRequest;
import software.amazon.awssdk.services.s3vectors.model.NotFoundException;
import software.amazon.awssdk.services.s3vectors.model.PutInputVector;
import software.amazon.awssdk.services.s3vectors.model.QueryOutputVector;
import software.amazon.awssdk.services.s3vectors.model.QueryVectorsRequest;
import software.amazon.awssdk.services.s3vectors.model.S3VectorsException;
import software.amazon.awssdk.services.s3vectors.model.ValidationException;
import software.amazon.awssdk.services.s3vectors.model.VectorData;

/** Tells the story of tests/clients/sdk_story.py with the AWS SDK for Java: one line of JSON per step. */
public final class Story {
    private static final int RECORD_COUNT = 250;
    private static final int WIDE_DIMENSION = 1024;
    private static final int WIDE_COUNT = 500;
    private static final int[] BITS = {
        0x7f7fffff, 0xff7fffff, 0x00800000, 0x00000001, 0x3dcccccd, 0x3eaaaaab, 0x4b800001, 0x80000000, 0x3f800001,
    };
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    private final S3VectorsClient client = S3VectorsClient.create();
    private final String bucket;

    private Story(String bucket) {
        this.bucket = bucket;
    }

    public static void main(String[] arguments) {
        var story = new Story(arguments[0]);
        story.buckets();
        story.indexes();
        story.records();
        story.queries();
        story.lists();
        story.documents();
        story.refusedDocuments();
        story.floats();
        story.notFinite();
        story.wide();
        story.errors();
        story.policies();
        story.tags();
        story.beyond();
        story.deletions();
    }

    private void buckets() {
        for (var name : List.of(bucket, bucket + "-2")) {
            var made = client.createVectorBucket(it -> it.vectorBucketName(name).tags(Map.of("made-by", "sdk")));
            emit("create bucket " + name, "arn", made.vectorBucketArn());
        }
        var got = client.getVectorBucket(it -> it.vectorBucketName(bucket)).vectorBucket();
        emit("get bucket", "name", got.vectorBucketName(), "arn", got.vectorBucketArn(),
            "created", seconds(got.creationTime()), "sse", got.encryptionConfiguration().sseTypeAsString());
        var names = client.listVectorBucketsPaginator(it -> it.prefix(bucket).maxResults(1)).vectorBuckets().stream()
            .map(found -> found.vectorBucketName()).toList();
        emit("list buckets", "names", names);
    }

    private void indexes() {
        for (var name : List.of("birds", "wide")) {
            var made = client.createIndex(it -> it.vectorBucketName(bucket).indexName(name)
                .dataType(DataType.FLOAT32)
                .dimension(name.equals("birds") ? 3 : WIDE_DIMENSION)
                .distanceMetric(DistanceMetric.EUCLIDEAN)
                .metadataConfiguration(metadata -> metadata.nonFilterableMetadataKeys("note"))
                .tags(Map.of("index", name)));
            emit("create index " + name, "arn", made.indexArn());
        }
        var index = client.getIndex(it -> it.vectorBucketName(bucket).indexName("birds")).index();
        emit("get index", "name", index.indexName(), "bucket", index.vectorBucketName(), "arn", index.indexArn(),
            "created", seconds(index.creationTime()), "data_type", index.dataTypeAsString(),
            "dimension", index.dimension(), "metric", index.distanceMetricAsString(),
            "non_filterable", index.metadataConfiguration().nonFilterableMetadataKeys());
        var names = client.listIndexesPaginator(it -> it.vectorBucketName(bucket).maxResults(1)).indexes().stream()
            .map(found -> found.indexName()).toList();
        emit("list indexes", "names", names);
    }

    private void records() {
        var vectors = IntStream.range(0, RECORD_COUNT).mapToObj(i -> record(key(i), new float[] {i, 0, 0},
            Document.mapBuilder().putNumber("n", i).putBoolean("even", i % 2 == 0).putString("name", "bird " + key(i))
                .build())).toList();
        put("birds", vectors);
        emit("put", "count", vectors.size());
        var got = get("birds", key(7), "missing");
        emit("get", "keys", got.stream().map(GetOutputVector::key).toList(), "data", got.get(0).data().float32(),
            "metadata", Json.plain(got.get(0).metadata()));
    }

    private void queries() {
        var query = QueryVectorsRequest.builder().vectorBucketName(bucket).indexName("birds")
            .queryVector(data(0, 0, 0));
        var even = Document.mapBuilder().putBoolean("even", true).build();
        var large = Document.mapBuilder().putMap("n", n -> n.putNumber("$gte", 100)).build();
        var filter = Document.mapBuilder().putList("$and", List.of(even, large)).build();
        var answer = client.queryVectors(
            query.copy().topK(3).filter(filter).returnDistance(true).returnMetadata(true).build());
        emit("query", "keys", answer.vectors().stream().map(QueryOutputVector::key).toList(),
            "distances", answer.vectors().stream().map(QueryOutputVector::distance).toList(),
            "metadata", answer.vectors().stream().map(hit -> Json.plain(hit.metadata())).toList(),
            "metric", answer.distanceMetricAsString());
        var sizes = new ArrayList<Integer>();
        var keys = new ArrayList<String>();
        for (var page : client.queryVectorsPaginator(query.copy().topK(RECORD_COUNT).build())) {
            sizes.add(page.vectors().size());
            page.vectors().forEach(hit -> keys.add(hit.key()));
        }
        emit("query pages", "sizes", sizes, "keys", keys);
    }

    private void lists() {
        var list = ListVectorsRequest.builder().vectorBucketName(bucket).indexName("birds");
        var sizes = new ArrayList<Integer>();
        var keys = new ArrayList<String>();
        for (var page : client.listVectorsPaginator(list.copy().maxResults(100).build())) {
            sizes.add(page.vectors().size());
            page.vectors().forEach(found -> keys.add(found.key()));
        }
        emit("list pages", "sizes", sizes, "keys", keys);
        var segments = IntStream.range(0, 4).mapToObj(i ->
            client.listVectorsPaginator(list.copy().segmentCount(4).segmentIndex(i).build()).vectors().stream()
                .map(found -> found.key()).toList()).toList();
        emit("list segments", "segments", segments);
    }

    private void documents() {
        var document = Document.mapBuilder()
            .putNumber("integer", 7).putNumber("negative", -3).putNumber("half", 0.5).putNumber("tiny", 5e-324)
            .putNumber("huge", 1e300).putNumber("beyond", 9007199254740993L)
            .putBoolean("flag", true).putBoolean("no", false)
            .putString("text", "Großer Brachvogel 鷸 🐦 \"\\\n\u2028").putString("ключ", "key")
            .putList("words", words -> words.addString("a").addString("b"))
            .putList("numbers", numbers -> numbers.addNumber(1).addNumber(2.5))
            .putString("note", "not for filters").build();
        put("birds", List.of(record("document", new float[] {1, 1, 1}, document)));
        emit("document", "metadata", Json.plain(get("birds", "document").get(0).metadata()));
        put("birds", List.of(record("bare", new float[] {1, 1, 1}, null)));
        emit("no document", "metadata", Json.plain(get("birds", "bare").get(0).metadata()));
    }

    private void refusedDocuments() {
        var cases = new LinkedHashMap<String, Document>();
        cases.put("nested", Document.mapBuilder().putMap("a", a -> a.putNumber("b", 1)).build());
        cases.put("null", Document.mapBuilder().putNull("a").build());
        cases.put("null in array", Document.mapBuilder().putList("a", a -> a.addString("x").addNull()).build());
        cases.put("empty array", Document.mapBuilder().putList("a", List.of()).build());
        cases.put("array", Document.listBuilder().addNumber(1).build());
        cases.put("text", Document.fromString("x"));
        cases.put("number", Document.fromNumber(1));
        cases.forEach((name, document) -> emitError("refused document " + name,
            () -> put("birds", List.of(record("refused", new float[] {1, 1, 1}, document)))));
        emitError("refused document NaN", () -> put("birds", List.of(record("refused", new float[] {1, 1, 1},
            Document.mapBuilder().putNumber("a", Double.NaN).build()))));
    }

    private void floats() {
        var bits = new ArrayList<Long>();
        for (int i = 0; i < BITS.length; i += 3) {
            var sent = new float[3];
            for (int j = 0; j < 3; j++) {
                sent[j] = Float.intBitsToFloat(BITS[i + j]);
            }
            put("birds", List.of(record("floats", sent, null)));
            for (float value : get("birds", "floats").get(0).data().float32()) {
                bits.add(Integer.toUnsignedLong(Float.floatToRawIntBits(value)));
            }
        }
        emit("floats", "bits", bits);
    }

    private void notFinite() {
        for (float value : new float[] {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY}) {
            emitError("put " + value, () -> put("birds", List.of(record("refused", new float[] {0, value, 0}, null))));
            emitError("query " + value, () -> client.queryVectors(it -> it.vectorBucketName(bucket).indexName("birds")
                .queryVector(data(0, value, 0)).topK(1)));
        }
    }

    private void wide() {
        var vectors = IntStream.range(0, WIDE_COUNT).mapToObj(i -> {
            var data = new float[WIDE_DIMENSION];
            for (int j = 0; j < data.length; j++) {
                data[j] = i + (float) j / WIDE_DIMENSION;
            }
            return record(key(i), data, null);
        }).toList();
        put("wide", vectors);
        var data = get("wide", key(499)).get(0).data().float32();
        emit("wide", "first", data.get(0), "last", data.get(WIDE_DIMENSION - 1), "count", data.size());
    }

    private void errors() {
        emitError("unknown bucket", () -> client.getVectorBucket(it -> it.vectorBucketName("no-such-bucket")));
        emitError("unknown index", () -> client.getIndex(it -> it.vectorBucketName(bucket).indexName("missing")));
        emitError("bucket again", () -> client.createVectorBucket(it -> it.vectorBucketName(bucket)));
        emitError("bucket not empty", () -> client.deleteVectorBucket(it -> it.vectorBucketName(bucket)));
        emitError("two fields", () -> client.createIndex(it -> it.vectorBucketName(bucket).indexName("refused")
            .dataType(DataType.FLOAT32).dimension(5000).distanceMetric("angular")));
        emitError("wrong dimension", () -> put("birds", List.of(record("k", new float[] {1}, null))));
    }

    private void policies() {
        emitError("no policy", this::policy);
        var policy = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Deny\",\"Principal\":\"*\","
            + "\"Action\":\"s3vectors:*\",\"Resource\":\"*\"}]}";
        client.putVectorBucketPolicy(it -> it.vectorBucketName(bucket).policy(policy));
        emit("policy", "policy", policy());
        client.deleteVectorBucketPolicy(it -> it.vectorBucketName(bucket));
        emitError("policy deleted", this::policy);
    }

    private String policy() {
        return client.getVectorBucketPolicy(it -> it.vectorBucketName(bucket)).policy();
    }

    private void tags() {
        var arns = new LinkedHashMap<String, String>();
        arns.put("bucket", client.getVectorBucket(it -> it.vectorBucketName(bucket)).vectorBucket().vectorBucketArn());
        arns.put("index", client.getIndex(it -> it.vectorBucketName(bucket).indexName("birds")).index().indexArn());
        arns.forEach((name, arn) -> {
            emit("tags " + name, "tags", tagsOf(arn));
            client.tagResource(it -> it.resourceArn(arn)
                .tags(Map.of("plain", "1", "a b/c+d=é:@", "ü = more/+", "third", "")));
            emit("tags added " + name, "tags", tagsOf(arn));
            client.untagResource(it -> it.resourceArn(arn).tagKeys("plain", "a b/c+d=é:@"));
            emit("tags removed " + name, "tags", tagsOf(arn));
        });
    }

    private Map<String, String> tagsOf(String arn) {
        return client.listTagsForResource(it -> it.resourceArn(arn)).tags();
    }

    /** What only Java has: a client that does not block, and HTTP/2 from the first byte, or offered in a request. */
    private void beyond() {
        try (var asynchronous = S3VectorsAsyncClient.create()) {
            var queries = IntStream.range(0, 20).mapToObj(i -> asynchronous.queryVectors(
                it -> it.vectorBucketName(bucket).indexName("birds").queryVector(data(i, 0, 0)).topK(1))).toList();
            emit("queries at once",
                "nearest", queries.stream().map(answer -> answer.join().vectors().get(0).key()).toList());
            var wide = IntStream.range(0, WIDE_COUNT)
                .mapToObj(i -> record(key(i), new float[WIDE_DIMENSION], null)).toList();
            asynchronous.putVectors(it -> it.vectorBucketName(bucket).indexName("wide").vectors(wide)).join();
            var listed = new ArrayList<String>();
            asynchronous.listVectorsPaginator(it -> it.vectorBucketName(bucket).indexName("wide").maxResults(200))
                .vectors().subscribe(found -> listed.add(found.key())).join();
            emit("pages published", "count", listed.size());
            emitError("asynchronous error", () -> asynchronous.getVectorBucket(
                it -> it.vectorBucketName("no-such-bucket")).join());
        }
        var handler = NettyNioAsyncHttpClient.builder().protocol(Protocol.HTTP2);
        try (var http2 = S3VectorsAsyncClient.builder().httpClientBuilder(handler)
                .overrideConfiguration(it -> it.retryStrategy(retries -> retries.maxAttempts(1))).build()) {
            var refusal = http2.listVectorBuckets(it -> {}).handle((answer, error) -> error != null).join();
            emit("HTTP/2 from the first byte", "refused", refusal);
        }
        var offer = new Offer();
        var body = Json.write(Map.of("vectorBucketName", bucket));
        for (int i = 1; i <= 2; i++) {
            try {
                var answer = offer.send("GetVectorBucket", body);
                var isIt = answer.body().contains("\"vectorBucketName\":\"" + bucket + "\"");
                emit("HTTP/2 offered " + i,
                    "status", answer.statusCode(), "version", answer.version().name(), "isIt", isIt);
            } catch (IOException | InterruptedException error) {
                throw new IllegalStateException(error);
            }
        }
    }

    private void deletions() {
        client.deleteVectors(it -> it.vectorBucketName(bucket).indexName("birds").keys(key(0), key(1), "missing"));
        emit("delete", "left", get("birds", key(0), key(1), key(2)).stream().map(GetOutputVector::key).toList());
        for (var name : List.of("birds", "wide")) {
            client.deleteIndex(it -> it.vectorBucketName(bucket).indexName(name));
        }
        for (var name : List.of(bucket, bucket + "-2")) {
            client.deleteVectorBucket(it -> it.vectorBucketName(name));
        }
        emitError("bucket deleted", () -> client.getVectorBucket(it -> it.vectorBucketName(bucket)));
    }

    private void put(String index, List<PutInputVector> vectors) {
        client.putVectors(it -> it.vectorBucketName(bucket).indexName(index).vectors(vectors));
    }

    private List<GetOutputVector> get(String index, String... keys) {
        return client.getVectors(it -> it.vectorBucketName(bucket).indexName(index).keys(keys)
            .returnData(true).returnMetadata(true)).vectors();
    }

    private static PutInputVector record(String key, float[] values, Document metadata) {
        return PutInputVector.builder().key(key).data(data(values)).metadata(metadata).build();
    }

    private static VectorData data(float... values) {
        var boxed = new ArrayList<Float>(values.length);
        for (float value : values) {
            boxed.add(value);
        }
        return VectorData.fromFloat32(boxed);
    }

    private static String key(int i) {
        return String.format("k%03d", i);
    }

    private static double seconds(Instant at) {
        return at.toEpochMilli() / 1000.0;
    }

    private static void emit(String step, Object... pairs) {
        var found = new LinkedHashMap<String, Object>();
        found.put("step", step);
        for (int i = 0; i < pairs.length; i += 2) {
            found.put((String) pairs[i], pairs[i + 1]);
        }
        OUT.println(Json.write(found));
    }

    /** Reports a refusal as the class that it is, so that a code without its class shows. */
    private static void emitError(String step, Runnable call) {
        Throwable error;
        try {
            call.run();
            emit(step, "error", null, "message", "");
            return;
        } catch (CompletionException wrapped) {
            error = wrapped.getCause();
        } catch (RuntimeException thrown) {
            error = thrown;
        }
        if (!(error instanceof S3VectorsException refusal)) {
            emit(step, "error", null, "message", String.valueOf(error));
            return;
        }
        var code = refusal.awsErrorDetails().errorCode();
        var message = refusal.awsErrorDetails().errorMessage();
        if (refusal instanceof ValidationException validation) {
            var fields = validation.fieldList().stream()
                .map(field -> Map.of("path", field.path(), "message", field.message())).toList();
            emit(step, "error", code, "message", message, "typed", true, "fields", fields);
        } else {
            var isTyped = refusal instanceof NotFoundException || refusal instanceof ConflictException;
            emit(step, "error", code, "message", message, "typed", isTyped);
        }
    }
}
