package thaw.java;

import java.lang.reflect.AccessibleObject;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Member;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Type;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/**
 * The properties of a class: public getters (get, and is for booleans), setters, public fields, and the components of a
 * record. They are in the order in which the class declares fields of their names; the others follow by name.
 */
final class Bean {
    private static final Map<Class<?>, Bean> CACHE = new ConcurrentHashMap<>();

    final Map<String, Property> properties = new LinkedHashMap<>();
    private final List<Property> readable = new ArrayList<>();

    static Bean of(Class<?> type) {
        Bean bean = CACHE.get(type);
        if (bean == null) {
            bean = new Bean(type);
            CACHE.put(type, bean);
        }
        return bean;
    }

    private Bean(Class<?> type) {
        Deque<Class<?>> line = new ArrayDeque<>();
        for (Class<?> c = type; c != null && c != Object.class; c = c.getSuperclass()) {
            line.push(c);
        }
        for (Class<?> c : line) {
            for (Field field : c.getDeclaredFields()) {
                if (!Modifier.isStatic(field.getModifiers()) && !field.isSynthetic()) {
                    property(field.getName()).field = field;
                }
            }
        }
        Map<String, Method> accessors = Records.accessors(type);
        if (accessors == null) {
            methods(type, line);
        } else {
            properties.keySet().retainAll(accessors.keySet());
            for (Map.Entry<String, Method> accessor : accessors.entrySet()) {
                property(accessor.getKey()).getter = accessor.getValue();
            }
        }
        for (Property property : properties.values()) {
            if (property.open()) {
                readable.add(property);
            }
        }
    }

    private void methods(Class<?> type, Deque<Class<?>> line) {
        Method[] methods = type.getMethods();
        Arrays.sort(methods, new Comparator<Method>() {
            @Override
            public int compare(Method a, Method b) {
                return a.getName().compareTo(b.getName());
            }
        });
        for (Method method : methods) {
            String name = getterName(method);
            if (name != null) {
                Property property = property(name);
                if (property.getter == null || property.getter.isBridge() || method.getName().startsWith("get")) {
                    property.getter = method;
                }
            }
        }
        for (Class<?> c : line) {
            for (Method method : c.getDeclaredMethods()) {
                String name = method.getName();
                if (method.getParameterCount() == 1 && name.length() > 3 && name.startsWith("set")
                        && !Modifier.isStatic(method.getModifiers()) && !method.isBridge()) {
                    Property property = property(decapitalize(name.substring(3)));
                    if (property.setter == null || property.prefers(method)) {
                        property.setter = method;
                    }
                }
            }
        }
    }

    private static String getterName(Method method) {
        Class<?> result = method.getReturnType();
        String name = method.getName();
        if (method.getParameterCount() > 0 || Modifier.isStatic(method.getModifiers()) || result == void.class
                || method.isBridge() || method.getDeclaringClass() == Object.class) {
            return null;
        }
        if (name.length() > 3 && name.startsWith("get")) {
            return decapitalize(name.substring(3));
        }
        if (name.length() > 2 && name.startsWith("is") && (result == boolean.class || result == Boolean.class)) {
            return decapitalize(name.substring(2));
        }
        return null;
    }

    /** Name becomes name, URL stays URL: the rule of java.beans. */
    private static String decapitalize(String name) {
        if (name.length() > 1 && Character.isUpperCase(name.charAt(0)) && Character.isUpperCase(name.charAt(1))) {
            return name;
        }
        return Character.toLowerCase(name.charAt(0)) + name.substring(1);
    }

    private Property property(String name) {
        Property property = properties.get(name);
        if (property == null) {
            property = new Property(name);
            properties.put(name, property);
        }
        return property;
    }

    Collection<Property> readable() {
        return readable;
    }

    /** One property, with the ways to it that there are. */
    static final class Property {
        final String name;
        Field field;
        private Method getter;
        private Method setter;

        Property(String name) {
            this.name = name;
        }

        /** Of two setters the one that takes what the getter gives. */
        private boolean prefers(Method method) {
            return getter != null && method.getParameterTypes()[0] == getter.getReturnType();
        }

        private boolean publicField() {
            return field != null && Modifier.isPublic(field.getModifiers());
        }

        /** Makes what is public usable, even of a class that is not. False when there is no way to read it. */
        private boolean open() {
            getter = open(getter);
            setter = open(setter);
            return getter != null || publicField() && open(field) != null;
        }

        private static <T extends AccessibleObject & Member> T open(T member) {
            if (member == null) {
                return null;
            }
            try {
                member.setAccessible(true);
                return member;
            } catch (RuntimeException e) { // of a module that does not open it
                boolean usable = Modifier.isPublic(member.getModifiers())
                        && Modifier.isPublic(member.getDeclaringClass().getModifiers());
                return usable ? member : null;
            }
        }

        Object get(Object bean) throws InvocationTargetException {
            try {
                return getter != null ? getter.invoke(bean) : field.get(bean);
            } catch (IllegalAccessException e) {
                throw new JsonException("Cannot read " + name, e);
            }
        }

        /** The type that set takes; null when it cannot be set from outside. */
        Type settable() {
            if (setter != null) {
                return setter.getGenericParameterTypes()[0];
            }
            return publicField() && !Modifier.isFinal(field.getModifiers()) ? field.getGenericType() : null;
        }

        void set(Object bean, Object value) throws InvocationTargetException {
            try {
                if (setter != null) {
                    setter.invoke(bean, value);
                } else {
                    field.set(bean, value);
                }
            } catch (IllegalAccessException e) {
                throw new JsonException("Cannot set " + name, e);
            }
        }
    }
}
