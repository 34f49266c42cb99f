package thaw.java;

import java.io.File;
import java.lang.reflect.Array;
import java.lang.reflect.InvocationTargetException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.time.Instant;
import java.util.Base64;
import java.util.Calendar;
import java.util.Date;
import java.util.Iterator;
import java.util.Map;
import java.util.Optional;

/**
 * Writes any value as JSON, in the manner of AWS's serializer: members that are null are left out, of beans and of maps;
 * dates are milliseconds since 1970, bytes are base64.
 */
final class JsonWriter {
    private static final char[] HEX = "0123456789abcdef".toCharArray();

    private JsonWriter() {}

    static void write(StringBuilder out, Object value, int depth) {
        if (depth > Json.MAX_DEPTH) {
            throw new JsonException("A value is nested deeper than " + Json.MAX_DEPTH + " levels, perhaps within itself");
        }
        if (value == null || value instanceof Boolean) {
            out.append(value);
        } else if (value instanceof CharSequence || value instanceof Character) {
            quote(out, value.toString());
        } else if (value instanceof Number) {
            number(out, (Number) value);
        } else if (value instanceof Map) {
            map(out, (Map<?, ?>) value, depth);
        } else if (value instanceof Iterable && !(value instanceof Path)) {
            list(out, ((Iterable<?>) value).iterator(), depth);
        } else if (value instanceof Enum) {
            quote(out, ((Enum<?>) value).name());
        } else if (value.getClass().isArray()) {
            array(out, value, depth);
        } else {
            other(out, value, depth);
        }
    }

    private static void other(StringBuilder out, Object value, int depth) {
        if (value instanceof Optional) {
            write(out, ((Optional<?>) value).orElse(null), depth);
        } else if (value instanceof Iterator) {
            list(out, (Iterator<?>) value, depth);
        } else if (value instanceof Date) {
            out.append(((Date) value).getTime());
        } else if (value instanceof Calendar) {
            out.append(((Calendar) value).getTimeInMillis());
        } else if (value instanceof Instant) {
            Instant instant = (Instant) value;
            out.append(instant.getEpochSecond()).append('.');
            out.append(Integer.toString(1_000_000_000 + instant.getNano()), 1, 10);
        } else if (value instanceof ByteBuffer) {
            ByteBuffer buffer = ((ByteBuffer) value).duplicate();
            byte[] bytes = new byte[buffer.remaining()];
            buffer.get(bytes);
            quote(out, Base64.getEncoder().encodeToString(bytes));
        } else if (value instanceof Class) {
            quote(out, ((Class<?>) value).getName());
        } else if (value instanceof File || isText(value.getClass().getName())) {
            quote(out, value.toString());
        } else {
            bean(out, value, depth);
        }
    }

    /** Classes of the library that stand for their text. */
    static boolean isText(String className) {
        return className.startsWith("java.time.")
                || className.startsWith("java.net.UR")
                || className.startsWith("java.util.UUID")
                || className.startsWith("java.util.Locale")
                || className.startsWith("java.util.Currency")
                || className.startsWith("java.util.regex.Pattern")
                || className.startsWith("sun.nio.fs.")
                || className.startsWith("java.util.concurrent.atomic.AtomicBoolean")
                || className.startsWith("org.joda.time.");
    }

    private static void number(StringBuilder out, Number value) {
        double d = value instanceof Double || value instanceof Float ? value.doubleValue() : 0;
        if (Double.isNaN(d) || Double.isInfinite(d)) {
            quote(out, value.toString());
        } else {
            out.append(value);
        }
    }

    private static void map(StringBuilder out, Map<?, ?> map, int depth) {
        char separator = '{';
        for (Map.Entry<?, ?> entry : map.entrySet()) {
            if (entry.getKey() == null) {
                throw new JsonException("Null key for a Map not allowed in JSON");
            }
            if (entry.getValue() != null) {
                Object key = entry.getKey();
                name(out, separator, key instanceof Enum ? ((Enum<?>) key).name() : key.toString());
                write(out, entry.getValue(), depth + 1);
                separator = ',';
            }
        }
        out.append(separator == '{' ? "{}" : "}");
    }

    private static void bean(StringBuilder out, Object bean, int depth) {
        char separator = '{';
        for (Bean.Property property : Bean.of(bean.getClass()).readable()) {
            Object value;
            try {
                value = property.get(bean);
            } catch (InvocationTargetException e) {
                throw new JsonException(bean.getClass().getName() + "." + property.name + " failed", e.getCause());
            }
            if (value != null) {
                name(out, separator, property.name);
                write(out, value, depth + 1);
                separator = ',';
            }
        }
        out.append(separator == '{' ? "{}" : "}");
    }

    private static void name(StringBuilder out, char separator, String name) {
        out.append(separator);
        quote(out, name);
        out.append(':');
    }

    private static void list(StringBuilder out, Iterator<?> values, int depth) {
        char separator = '[';
        while (values.hasNext()) {
            out.append(separator);
            write(out, values.next(), depth + 1);
            separator = ',';
        }
        out.append(separator == '[' ? "[]" : "]");
    }

    private static void array(StringBuilder out, Object array, int depth) {
        if (array instanceof byte[]) {
            quote(out, Base64.getEncoder().encodeToString((byte[]) array));
            return;
        }
        if (array instanceof char[]) {
            quote(out, new String((char[]) array));
            return;
        }
        out.append('[');
        for (int i = 0; i < Array.getLength(array); i++) {
            if (i > 0) {
                out.append(',');
            }
            write(out, Array.get(array, i), depth + 1);
        }
        out.append(']');
    }

    private static void quote(StringBuilder out, String text) {
        out.append('"');
        int plain = 0;
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c >= ' ' && c != '"' && c != '\\' && !Character.isSurrogate(c)) {
                continue;
            }
            if (Character.isHighSurrogate(c) && i + 1 < text.length() && Character.isLowSurrogate(text.charAt(i + 1))) {
                i++;
                continue;
            }
            out.append(text, plain, i);
            plain = i + 1;
            escape(out, c);
        }
        out.append(text, plain, text.length()).append('"');
    }

    private static void escape(StringBuilder out, char c) {
        switch (c) {
            case '"':
            case '\\':
                out.append('\\').append(c);
                break;
            case '\n':
                out.append("\\n");
                break;
            case '\r':
                out.append("\\r");
                break;
            case '\t':
                out.append("\\t");
                break;
            default: // half a surrogate pair has no UTF-8
                out.append("\\u").append(HEX[c >> 12]).append(HEX[c >> 8 & 15]).append(HEX[c >> 4 & 15]).append(HEX[c & 15]);
        }
    }
}
