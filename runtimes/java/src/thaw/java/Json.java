package thaw.java;

import java.math.BigInteger;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** JSON text to and from Java's own types: Map, List, String, Number, Boolean, null. */
final class Json {
    static final int MAX_DEPTH = 1000;

    private final String text;
    private final boolean exact;
    private int at;
    private int depth;

    private Json(String text, boolean exact) {
        this.text = text;
        this.exact = exact;
    }

    /** Numbers become Integer, Long or BigInteger, whichever holds them, and Double. */
    static Object parse(String text) {
        return new Json(text, false).whole();
    }

    /** As parse, with Decimal in Double's place. */
    static Object parseExact(String text) {
        return new Json(text, true).whole();
    }

    static String write(Object value) {
        StringBuilder out = new StringBuilder(256);
        JsonWriter.write(out, value, 0);
        return out.toString();
    }

    private Object whole() {
        Object value = value();
        space();
        if (at < text.length()) {
            throw unexpected();
        }
        return value;
    }

    private Object value() {
        space();
        if (at == text.length()) {
            throw new JsonException("Unexpected end of the JSON text");
        }
        char c = text.charAt(at);
        switch (c) {
            case '{':
                return object();
            case '[':
                return array();
            case '"':
                return string();
            case 't':
                return literal("true", Boolean.TRUE);
            case 'f':
                return literal("false", Boolean.FALSE);
            case 'n':
                return literal("null", null);
            default:
                if (c == '-' || c >= '0' && c <= '9') {
                    return number();
                }
                throw unexpected();
        }
    }

    private Map<String, Object> object() {
        enter();
        Map<String, Object> object = new LinkedHashMap<>();
        if (!endsWith('}')) {
            do {
                space();
                if (at == text.length() || text.charAt(at) != '"') {
                    throw unexpected();
                }
                String key = string();
                expect(':');
                object.put(key, value());
            } while (another('}'));
        }
        depth--;
        return object;
    }

    private List<Object> array() {
        enter();
        List<Object> list = new ArrayList<>();
        if (!endsWith(']')) {
            do {
                list.add(value());
            } while (another(']'));
        }
        depth--;
        return list;
    }

    private void enter() {
        if (++depth > MAX_DEPTH) {
            throw new JsonException("JSON is nested deeper than " + MAX_DEPTH + " levels");
        }
        at++;
    }

    private boolean endsWith(char end) {
        space();
        if (at < text.length() && text.charAt(at) == end) {
            at++;
            return true;
        }
        return false;
    }

    /** Takes a comma (true) or the end (false). */
    private boolean another(char end) {
        if (endsWith(end)) {
            return false;
        }
        expect(',');
        return true;
    }

    private void expect(char c) {
        if (!endsWith(c)) {
            throw unexpected();
        }
    }

    private String string() {
        int begin = ++at;
        for (; at < text.length(); at++) {
            char c = text.charAt(at);
            if (c == '"') {
                return text.substring(begin, at++);
            }
            if (c == '\\') {
                return escaped(begin);
            }
            if (c < ' ') {
                throw unexpected();
            }
        }
        throw new JsonException("Unexpected end within a JSON string");
    }

    private String escaped(int begin) {
        StringBuilder out = new StringBuilder(text.length() - begin < 256 ? text.length() - begin : 256);
        out.append(text, begin, at);
        while (at < text.length()) {
            char c = text.charAt(at++);
            if (c == '"') {
                return out.toString();
            }
            if (c < ' ') {
                at--;
                throw unexpected();
            }
            out.append(c == '\\' ? escape() : c);
        }
        throw new JsonException("Unexpected end within a JSON string");
    }

    private char escape() {
        if (at == text.length()) {
            throw new JsonException("Unexpected end within a JSON string");
        }
        char c = text.charAt(at++);
        switch (c) {
            case 'n':
                return '\n';
            case 't':
                return '\t';
            case 'r':
                return '\r';
            case 'b':
                return '\b';
            case 'f':
                return '\f';
            case '"':
            case '\\':
            case '/':
                return c;
            case 'u':
                int code = 0;
                for (int i = 0; i < 4; i++) {
                    int digit = at < text.length() ? Character.digit(text.charAt(at++), 16) : -1;
                    if (digit < 0) {
                        throw new JsonException("Not four hexadecimal digits after \\u");
                    }
                    code = code << 4 | digit;
                }
                return (char) code;
            default:
                throw new JsonException("Unknown escape \\" + c);
        }
    }

    private Number number() {
        int begin = at;
        if (text.charAt(at) == '-') {
            at++;
        }
        int digits = at;
        digits();
        boolean bad = at == digits || text.charAt(digits) == '0' && at > digits + 1;
        boolean whole = true;
        if (at < text.length() && text.charAt(at) == '.') {
            whole = false;
            int fraction = ++at;
            digits();
            bad |= at == fraction;
        }
        if (at < text.length() && (text.charAt(at) | 0x20) == 'e') {
            whole = false;
            at++;
            if (at < text.length() && (text.charAt(at) == '+' || text.charAt(at) == '-')) {
                at++;
            }
            int exponent = at;
            digits();
            bad |= at == exponent;
        }
        String number = text.substring(begin, at);
        if (bad) {
            throw new JsonException("Not a JSON number: " + number);
        }
        if (!whole) {
            return exact ? (Number) new Decimal(number) : (Number) Double.valueOf(number);
        }
        if (number.length() > 18) {
            BigInteger big = new BigInteger(number);
            return big.bitLength() < 64 ? (Number) big.longValue() : big;
        }
        long small = Long.parseLong(number);
        return small == (int) small ? (Number) (int) small : (Number) small;
    }

    private void digits() {
        while (at < text.length() && text.charAt(at) >= '0' && text.charAt(at) <= '9') {
            at++;
        }
    }

    private Object literal(String literal, Object value) {
        if (!text.startsWith(literal, at)) {
            throw unexpected();
        }
        at += literal.length();
        return value;
    }

    private void space() {
        while (at < text.length()) {
            char c = text.charAt(at);
            if (c != ' ' && c != '\n' && c != '\t' && c != '\r') {
                return;
            }
            at++;
        }
    }

    private JsonException unexpected() {
        if (at >= text.length()) {
            return new JsonException("Unexpected end of the JSON text");
        }
        return new JsonException("Unexpected character '" + text.charAt(at) + "' at position " + at + " of the JSON text");
    }
}
