import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import software.amazon.awssdk.core.document.Document;

/** Writes JSON; numbers keep all the digits that the SDK has of them. */
final class Json {
    private Json() {}

    static String write(Object value) {
        if (value instanceof Map<?, ?> members) {
            return members.entrySet().stream()
                .map(member -> quote((String) member.getKey()) + ":" + write(member.getValue()))
                .collect(Collectors.joining(",", "{", "}"));
        }
        if (value instanceof List<?> items) {
            return items.stream().map(Json::write).collect(Collectors.joining(",", "[", "]"));
        }
        if (value instanceof String text) {
            return quote(text);
        }
        return String.valueOf(value);
    }

    /** Turns a document into what `write` takes. */
    static Object plain(Document document) {
        if (document == null || document.isNull()) {
            return null;
        }
        if (document.isMap()) {
            var members = new java.util.LinkedHashMap<String, Object>();
            document.asMap().forEach((name, value) -> members.put(name, plain(value)));
            return members;
        }
        if (document.isList()) {
            return document.asList().stream().map(Json::plain).toList();
        }
        return document.isString() ? document.asString() : document.isBoolean() ? document.asBoolean() : document.asNumber();
    }

    private static String quote(String text) {
        var quoted = new StringBuilder("\"");
        for (char unit : text.toCharArray()) {
            if (unit == '"' || unit == '\\' || unit < ' ' || unit > '~') {
                quoted.append(String.format("\\u%04x", (int) unit));
            } else {
                quoted.append(unit);
            }
        }
        return quoted.append('"').toString();
    }
}
