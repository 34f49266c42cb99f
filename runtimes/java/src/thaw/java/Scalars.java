package thaw.java;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.Arrays;
import java.util.Base64;
import java.util.Date;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Makes strings, numbers, booleans, dates, bytes and the library's classes that stand for a text. */
final class Scalars extends Binder {
    private static final Set<Class<?>> SIMPLE = new HashSet<>(Arrays.<Class<?>>asList(
            String.class, CharSequence.class, Character.class, char.class, Boolean.class, boolean.class, Number.class,
            Byte.class, byte.class, Short.class, short.class, Integer.class, int.class, Long.class, long.class,
            Float.class, float.class, Double.class, double.class, BigInteger.class, BigDecimal.class,
            byte[].class, ByteBuffer.class, Date.class));
    private static final String[] MAKERS = {"parse", "fromString", "create", "of", "forLanguageTag", "getInstance"};

    private final Class<?> type;

    Scalars(Class<?> type) {
        this.type = type;
    }

    static boolean handles(Class<?> type) {
        return SIMPLE.contains(type) || JsonWriter.isText(type.getName()) || type == java.io.File.class
                || type == java.nio.file.Path.class;
    }

    @Override
    Object bind(Object json) {
        if (json instanceof List && ((List<?>) json).size() == 1) {
            json = ((List<?>) json).get(0); // one value in a list is that value, as on AWS
        }
        if (json == null) {
            return type.isPrimitive() ? zero() : null;
        }
        if (json instanceof Map || json instanceof List) {
            throw mismatch(json, type);
        }
        try {
            return value(json);
        } catch (NumberFormatException e) {
            throw new JsonException("Cannot make a value of type " + type.getName() + " of \"" + json + "\"", e);
        }
    }

    private Object zero() {
        return type == boolean.class ? (Object) false : type == char.class ? (Object) '\0' : number(0);
    }

    private Object value(Object json) {
        String text = json.toString();
        if (type == String.class || type == CharSequence.class) {
            return text;
        }
        if (text.isEmpty()) {
            return type.isPrimitive() ? zero() : type == byte[].class ? new byte[0] : null;
        }
        if (type == boolean.class || type == Boolean.class) {
            return bool(json, text);
        }
        if (type == char.class || type == Character.class) {
            return json instanceof Number ? (char) ((Number) json).intValue() : text.charAt(0);
        }
        if (type == byte[].class) {
            return Base64.getDecoder().decode(text);
        }
        if (type == ByteBuffer.class) {
            return ByteBuffer.wrap(Base64.getDecoder().decode(text));
        }
        if (type == Date.class) {
            return date(json, text);
        }
        if (!SIMPLE.contains(type)) {
            return json instanceof Number && type == Instant.class ? instant((Number) json) : parsed(text);
        }
        if (json instanceof Boolean) {
            throw mismatch(json, type);
        }
        return number(json instanceof Number ? (Number) json : new Decimal(new BigDecimal(text.trim()).toString()));
    }

    private Object bool(Object json, String text) {
        if (json instanceof Number) {
            return ((Number) json).intValue() != 0;
        }
        if (!text.equals("true") && !text.equals("false")) {
            throw mismatch(json, type);
        }
        return text.equals("true");
    }

    private Object number(Number n) {
        if (type == int.class || type == Integer.class) {
            return (int) within(n, Integer.MIN_VALUE, Integer.MAX_VALUE);
        }
        if (type == long.class || type == Long.class) {
            return within(n, Long.MIN_VALUE, Long.MAX_VALUE);
        }
        if (type == double.class || type == Double.class) {
            return n.doubleValue();
        }
        if (type == float.class || type == Float.class) {
            return n.floatValue();
        }
        if (type == short.class || type == Short.class) {
            return (short) within(n, Short.MIN_VALUE, Short.MAX_VALUE);
        }
        if (type == byte.class || type == Byte.class) {
            return (byte) within(n, Byte.MIN_VALUE, 255);
        }
        if (type == BigInteger.class) {
            return exact(n).toBigInteger();
        }
        return type == BigDecimal.class ? exact(n) : n instanceof Decimal ? (Number) n.doubleValue() : n;
    }

    private static BigDecimal exact(Number n) {
        return n instanceof Decimal ? ((Decimal) n).exact() : new BigDecimal(n.toString());
    }

    private long within(Number n, long min, long max) {
        boolean fits;
        if (n instanceof Integer || n instanceof Long) {
            fits = n.longValue() >= min && n.longValue() <= max;
        } else {
            BigDecimal exact = exact(n);
            fits = exact.compareTo(BigDecimal.valueOf(min)) >= 0 && exact.compareTo(BigDecimal.valueOf(max)) <= 0;
        }
        if (!fits) {
            throw new JsonException("Numeric value (" + n + ") out of range of " + type.getName());
        }
        return n.longValue();
    }

    /** Milliseconds since 1970; AWS's own events have seconds with a fraction, or text. */
    private static Date date(Object json, String text) {
        if (json instanceof Decimal) {
            return new Date(((Decimal) json).exact().movePointRight(3).longValue());
        }
        if (json instanceof Number) {
            return new Date(((Number) json).longValue());
        }
        return Date.from(text.endsWith("Z") ? Instant.parse(text) : OffsetDateTime.parse(text).toInstant());
    }

    private static Instant instant(Number seconds) {
        BigDecimal decimal = exact(seconds);
        BigDecimal whole = new BigDecimal(decimal.toBigInteger());
        return Instant.ofEpochSecond(whole.longValue(), decimal.subtract(whole).movePointRight(9).longValue());
    }

    /** By the class's own way from a text: a constructor or a static method. */
    private Object parsed(String text) {
        try {
            if (type == java.nio.file.Path.class) {
                return java.nio.file.Paths.get(text);
            }
            for (String name : MAKERS) {
                for (Class<?> parameter : new Class<?>[] {CharSequence.class, String.class}) {
                    Method maker = find(name, parameter);
                    if (maker != null) {
                        return maker.invoke(null, text);
                    }
                }
            }
            return type.getConstructor(String.class).newInstance(text);
        } catch (InvocationTargetException e) {
            throw new JsonException("Cannot make a value of type " + type.getName() + " of \"" + text + "\"", e.getCause());
        } catch (ReflectiveOperationException e) {
            throw mismatch(text, type);
        }
    }

    private Method find(String name, Class<?> parameter) {
        try {
            return type.getMethod(name, parameter);
        } catch (NoSuchMethodException e) {
            return null;
        }
    }
}
