package thaw.java;

import java.lang.reflect.Constructor;
import java.lang.reflect.Method;
import java.util.LinkedHashMap;
import java.util.Map;

/** Records (Java 16), by reflection: this code runs on Java 8 too. */
final class Records {
    private static final Method IS_RECORD = find(Class.class, "isRecord");
    private static final Method COMPONENTS = find(Class.class, "getRecordComponents");

    private Records() {}

    private static Method find(Class<?> type, String name) {
        try {
            return type.getMethod(name);
        } catch (NoSuchMethodException e) {
            return null;
        }
    }

    static boolean isRecord(Class<?> type) {
        return IS_RECORD != null && (boolean) call(IS_RECORD, type);
    }

    /** The components' accessors, by name and in order; null when type is no record. */
    static Map<String, Method> accessors(Class<?> type) {
        if (!isRecord(type)) {
            return null;
        }
        Map<String, Method> accessors = new LinkedHashMap<>();
        for (Object component : (Object[]) call(COMPONENTS, type)) {
            Method accessor = (Method) call(find(component.getClass(), "getAccessor"), component);
            accessors.put(accessor.getName(), accessor);
        }
        return accessors;
    }

    static Constructor<?> constructor(Class<?> type) {
        Map<String, Method> accessors = accessors(type);
        Class<?>[] types = new Class<?>[accessors.size()];
        int i = 0;
        for (Method accessor : accessors.values()) {
            types[i++] = accessor.getReturnType();
        }
        try {
            Constructor<?> constructor = type.getDeclaredConstructor(types);
            constructor.setAccessible(true);
            return constructor;
        } catch (NoSuchMethodException e) {
            throw new JsonException(type.getName() + " has no canonical constructor", e);
        }
    }

    private static Object call(Method method, Object target) {
        try {
            return method.invoke(target);
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }
}
