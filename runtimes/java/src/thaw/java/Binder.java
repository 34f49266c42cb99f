package thaw.java;

import java.lang.reflect.Array;
import java.lang.reflect.GenericArrayType;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;
import java.lang.reflect.WildcardType;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.EnumMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.LinkedList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Queue;
import java.util.Set;
import java.util.SortedMap;
import java.util.SortedSet;
import java.util.TreeMap;
import java.util.TreeSet;

/**
 * Makes a value of one type from parsed JSON, in the manner of AWS's serializer: unknown members are ignored, unknown enum
 * constants are null, an empty string is a null object, and one value does for a list of one.
 */
abstract class Binder {
    abstract Object bind(Object json);

    /** Does what the first bind would have to do, as far as that calls no code of the function. */
    void prepare() {}

    static Binder of(Type type) {
        Class<?> raw = Generics.raw(type);
        if (raw == Object.class || raw == java.io.Serializable.class) {
            return new Natural();
        }
        if (Scalars.handles(raw)) {
            return new Scalars(raw);
        }
        if (raw.isArray()) {
            return new OfArray(raw.getComponentType(), of(element(type, raw)));
        }
        if (raw == Optional.class) {
            return new OfOptional(of(argument(type, Optional.class, 0)));
        }
        if (Map.class.isAssignableFrom(raw)) {
            return new OfMap(raw, argument(type, Map.class, 0), of(argument(type, Map.class, 1)));
        }
        if (Collection.class.isAssignableFrom(raw) || raw == Iterable.class) {
            return new OfCollection(raw, of(argument(type, raw == Iterable.class ? Iterable.class : Collection.class, 0)));
        }
        if (raw.isEnum()) {
            return new OfEnum(raw);
        }
        return new BeanBinder(type, raw);
    }

    private static Type element(Type type, Class<?> raw) {
        if (type instanceof GenericArrayType) {
            return ((GenericArrayType) type).getGenericComponentType();
        }
        return type instanceof ParameterizedType ? ((ParameterizedType) type).getActualTypeArguments()[0] : raw.getComponentType();
    }

    private static Type argument(Type type, Class<?> target, int index) {
        Type[] arguments = type instanceof WildcardType || type instanceof TypeVariable
                ? null
                : Generics.arguments(type, target);
        return arguments == null ? Object.class : arguments[index];
    }

    /** What the mismatch is called in messages. */
    static JsonException mismatch(Object json, Class<?> type) {
        String kind = json instanceof Map ? "an object"
                : json instanceof List ? "an array"
                : json instanceof String ? "a string"
                : json instanceof Boolean ? "a boolean" : "a number";
        return new JsonException("Cannot make a value of type " + type.getName() + " of " + kind);
    }

    static Object instance(Class<?> type) {
        try {
            return type.getConstructor().newInstance();
        } catch (ReflectiveOperationException e) {
            throw new JsonException("Cannot make an instance of " + type.getName(), e);
        }
    }

    /** Whatever the JSON is. */
    private static final class Natural extends Binder {
        @Override
        Object bind(Object json) {
            if (json instanceof Decimal) {
                return ((Decimal) json).doubleValue();
            }
            if (json instanceof List) {
                @SuppressWarnings("unchecked")
                List<Object> list = (List<Object>) json;
                for (int i = 0; i < list.size(); i++) {
                    list.set(i, bind(list.get(i)));
                }
            } else if (json instanceof Map) {
                @SuppressWarnings("unchecked")
                Map<String, Object> map = (Map<String, Object>) json;
                for (Map.Entry<String, Object> entry : map.entrySet()) {
                    entry.setValue(bind(entry.getValue()));
                }
            }
            return json;
        }
    }

    private static final class OfArray extends Binder {
        private final Class<?> type;
        private final Binder element;

        OfArray(Class<?> type, Binder element) {
            this.type = type;
            this.element = element;
        }

        @Override
        Object bind(Object json) {
            if (json == null) {
                return null;
            }
            List<?> list = json instanceof List ? (List<?>) json : Collections.singletonList(json);
            Object array = Array.newInstance(type, list.size());
            for (int i = 0; i < list.size(); i++) {
                Array.set(array, i, element.bind(list.get(i)));
            }
            return array;
        }
    }

    private static final class OfOptional extends Binder {
        private final Binder value;

        OfOptional(Binder value) {
            this.value = value;
        }

        @Override
        Object bind(Object json) {
            return Optional.ofNullable(value.bind(json));
        }
    }

    private static final class OfEnum extends Binder {
        private final Class<?> type;

        OfEnum(Class<?> type) {
            this.type = type;
        }

        @Override
        Object bind(Object json) {
            for (Object constant : type.getEnumConstants()) {
                if (((Enum<?>) constant).name().equals(json) || Integer.valueOf(((Enum<?>) constant).ordinal()).equals(json)) {
                    return constant;
                }
            }
            if (json instanceof Map || json instanceof List) {
                throw mismatch(json, type);
            }
            return null;
        }
    }

    private static final class OfMap extends Binder {
        private final Class<?> type;
        private final Class<?> keyType;
        private final Binder key;
        private final Binder value;

        OfMap(Class<?> type, Type keyType, Binder value) {
            this.type = type;
            this.keyType = Generics.raw(keyType);
            this.key = this.keyType == String.class || this.keyType == Object.class ? null : of(keyType);
            this.value = value;
        }

        @Override
        @SuppressWarnings("unchecked")
        Object bind(Object json) {
            if (json == null || "".equals(json)) {
                return null;
            }
            if (!(json instanceof Map)) {
                throw mismatch(json, type);
            }
            Map<Object, Object> map = fresh();
            for (Map.Entry<String, Object> entry : ((Map<String, Object>) json).entrySet()) {
                map.put(key == null ? entry.getKey() : key.bind(entry.getKey()), value.bind(entry.getValue()));
            }
            return map;
        }

        @SuppressWarnings({"unchecked", "rawtypes"})
        private Map<Object, Object> fresh() {
            if (type.isAssignableFrom(LinkedHashMap.class)) {
                return new LinkedHashMap<>();
            }
            if (type == EnumMap.class) {
                return new EnumMap(keyType);
            }
            if (type.isInterface() && SortedMap.class.isAssignableFrom(type)) {
                return new TreeMap<>();
            }
            if (type.isInterface()) {
                return new java.util.concurrent.ConcurrentSkipListMap<>();
            }
            return (Map<Object, Object>) instance(type);
        }
    }

    private static final class OfCollection extends Binder {
        private final Class<?> type;
        private final Binder element;

        OfCollection(Class<?> type, Binder element) {
            this.type = type;
            this.element = element;
        }

        @Override
        Object bind(Object json) {
            if (json == null || "".equals(json)) {
                return null;
            }
            Collection<Object> collection = fresh();
            for (Object value : json instanceof List ? (List<?>) json : Collections.singletonList(json)) {
                collection.add(element.bind(value));
            }
            return collection;
        }

        @SuppressWarnings("unchecked")
        private Collection<Object> fresh() {
            if (type.isAssignableFrom(ArrayList.class)) {
                return new ArrayList<>();
            }
            if (type == Set.class || type == HashSet.class) {
                return new LinkedHashSet<>();
            }
            if (type.isInterface() && SortedSet.class.isAssignableFrom(type)) {
                return new TreeSet<>();
            }
            if (type.isInterface()) {
                return Queue.class.isAssignableFrom(type) && type.isAssignableFrom(ArrayDeque.class)
                        ? new ArrayDeque<>()
                        : new LinkedList<>();
            }
            return (Collection<Object>) instance(type);
        }
    }
}
