import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.List;
import java.util.Locale;
import software.amazon.awssdk.auth.credentials.EnvironmentVariableCredentialsProvider;
import software.amazon.awssdk.http.ContentStreamProvider;
import software.amazon.awssdk.http.SdkHttpMethod;
import software.amazon.awssdk.http.SdkHttpRequest;
import software.amazon.awssdk.http.auth.aws.signer.AwsV4HttpSigner;

/**
 * A signed request by Java's own HTTP client, which offers HTTP/2 in it and takes HTTP/1.1 as well.
 */
final class Offer {
    // Headers that the client sets by itself.
    private static final List<String> OWN = List.of("host", "content-length");

    private final HttpClient client = HttpClient.newHttpClient();
    private final AwsV4HttpSigner signer = AwsV4HttpSigner.create();

    HttpResponse<String> send(String operation, String body) throws IOException, InterruptedException {
        var uri = URI.create(System.getenv("AWS_ENDPOINT_URL_S3VECTORS") + "/" + operation);
        var plain = SdkHttpRequest.builder().method(SdkHttpMethod.POST).uri(uri)
            .putHeader("content-type", "application/json").build();
        var signed = signer.sign(it -> it
            .identity(EnvironmentVariableCredentialsProvider.create().resolveCredentials())
            .request(plain)
            .payload(ContentStreamProvider.fromUtf8String(body))
            .putProperty(AwsV4HttpSigner.SERVICE_SIGNING_NAME, "s3vectors")
            .putProperty(AwsV4HttpSigner.REGION_NAME, System.getenv("AWS_REGION")));
        var request = HttpRequest.newBuilder(uri).POST(HttpRequest.BodyPublishers.ofString(body));
        signed.request().forEachHeader((name, values) -> {
            if (!OWN.contains(name.toLowerCase(Locale.ROOT))) {
                values.forEach(value -> request.header(name, value));
            }
        });
        return client.send(request.build(), HttpResponse.BodyHandlers.ofString());
    }
}
