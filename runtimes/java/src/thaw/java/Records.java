package thaw.java;

import java.lang.reflect.Constructor;
import java.lang.reflect.Method;
import java.util.Map;

/** Records, which Java before 16 does not have: this class runs on Java 8 too, its subclass does not. */
class Records {
    private static final Records OF_THIS_JAVA = ofThisJava();

    private static Records ofThisJava() {
        String version = System.getProperty("java.specification.version");
        if (version.startsWith("1.") || Integer.parseInt(version) < 16) {
            return new Records();
        }
        try {
            return (Records) Class.forName("thaw.java.RecordsOfJava16").getDeclaredConstructor().newInstance();
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }

    /** The components' accessors, by name and in order; null when type is no record. */
    static Map<String, Method> accessors(Class<?> type) {
        return OF_THIS_JAVA.components(type);
    }

    Map<String, Method> components(Class<?> type) {
        return null;
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
}
