package thaw.java;

import java.lang.reflect.Method;
import java.lang.reflect.RecordComponent;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Records where there are some. Called directly: Class.getRecordComponents is marked as sensitive to its caller, and
 * before Java 18 its reflective call reads that annotation, which makes proxies and costs a start 20 ms.
 */
final class RecordsOfJava16 extends Records {
    @Override
    Map<String, Method> components(Class<?> type) {
        RecordComponent[] components = type.getRecordComponents();
        if (components == null) {
            return null;
        }
        Map<String, Method> accessors = new LinkedHashMap<>();
        for (RecordComponent component : components) {
            accessors.put(component.getName(), component.getAccessor());
        }
        return accessors;
    }
}
