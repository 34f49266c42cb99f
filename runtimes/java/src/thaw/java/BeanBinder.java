package thaw.java;

import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;
import java.util.HashMap;
import java.util.Map;

/**
 * Makes beans by their setters and public fields, and records by their constructor. The classes of aws-lambda-java-events
 * get more: AWS binds them with tables of its own for names that differ in case, and for classes that only have a
 * constructor; here their members match whatever their case, and what has no setter is set as a field.
 */
final class BeanBinder extends Binder {
    private static final String EVENTS = "com.amazonaws.services.lambda.runtime.events.";

    private final Type type;
    private final Class<?> raw;
    private final boolean event;

    /** By JSON name; null until the first use, as a class may have properties of its own type. */
    private Map<String, Member> members;

    private Constructor<?> constructor;
    private int recordSize = -1;

    BeanBinder(Type type, Class<?> raw) {
        this.type = type;
        this.raw = raw;
        event = raw.getName().startsWith(EVENTS);
    }

    private static final class Member {
        final int index; // of a record's component
        final Bean.Property property;
        final Class<?> type;
        final Binder binder;
        final Field field; // set when there is no other way

        Member(int index, Bean.Property property, Type type, Field field) {
            this.index = index;
            this.property = property;
            this.type = Generics.raw(type);
            this.field = field;
            binder = Binder.of(type);
        }
    }

    @Override
    void prepare() {
        Map<TypeVariable<?>, Type> variables = Generics.variables(type);
        Map<String, Member> found = new HashMap<>();
        Map<String, Method> accessors = Records.accessors(raw);
        if (accessors != null) {
            constructor = Records.constructor(raw);
            recordSize = 0;
            for (Map.Entry<String, Method> accessor : accessors.entrySet()) {
                Type component = Generics.resolve(accessor.getValue().getGenericReturnType(), variables);
                found.put(accessor.getKey(), new Member(recordSize++, null, component, null));
            }
        } else {
            constructor = noArguments();
            for (Bean.Property property : Bean.of(raw).properties.values()) {
                Member member = member(property, variables);
                if (member != null) {
                    found.put(event ? fold(property.name) : property.name, member);
                }
            }
        }
        members = found;
    }

    private Member member(Bean.Property property, Map<TypeVariable<?>, Type> variables) {
        Type settable = property.settable();
        if (settable != null) {
            return new Member(0, property, Generics.resolve(settable, variables), null);
        }
        Field field = property.field;
        if (!event || field == null) {
            return null;
        }
        field.setAccessible(true);
        return new Member(0, property, Generics.resolve(field.getGenericType(), variables), field);
    }

    private Constructor<?> noArguments() {
        if (raw.isInterface() || Modifier.isAbstract(raw.getModifiers())) {
            throw new JsonException("Cannot make an instance of " + raw.getName() + ": it is abstract");
        }
        try {
            Constructor<?> found = raw.getDeclaredConstructor();
            found.setAccessible(true);
            return found;
        } catch (NoSuchMethodException e) {
            if (event) {
                return withoutConstructor();
            }
            throw new JsonException("Cannot make an instance of " + raw.getName() + ": it has no constructor without parameters");
        }
    }

    /** What deserialization uses: Object's constructor for an instance of raw. */
    private Constructor<?> withoutConstructor() {
        try {
            Class<?> factory = Class.forName("sun.reflect.ReflectionFactory");
            Object instance = factory.getMethod("getReflectionFactory").invoke(null);
            return (Constructor<?>) factory.getMethod("newConstructorForSerialization", Class.class, Constructor.class)
                    .invoke(instance, raw, Object.class.getConstructor());
        } catch (ReflectiveOperationException e) {
            throw new JsonException("Cannot make an instance of " + raw.getName(), e);
        }
    }

    private static String fold(String name) {
        return name.toLowerCase(java.util.Locale.ROOT);
    }

    @Override
    Object bind(Object json) {
        if (json == null || "".equals(json)) {
            return null;
        }
        if (members == null) {
            prepare();
        }
        if (!(json instanceof Map)) {
            throw mismatch(json, raw);
        }
        try {
            return recordSize >= 0 ? bindRecord((Map<?, ?>) json) : bindBean((Map<?, ?>) json);
        } catch (InvocationTargetException e) {
            throw new JsonException("Cannot make an instance of " + raw.getName(), e.getCause());
        } catch (ReflectiveOperationException e) {
            throw new JsonException("Cannot make an instance of " + raw.getName(), e);
        }
    }

    private Object bindRecord(Map<?, ?> json) throws ReflectiveOperationException {
        Object[] arguments = new Object[recordSize];
        for (Map.Entry<String, Member> entry : members.entrySet()) {
            arguments[entry.getValue().index] = bind(entry.getKey(), entry.getValue(), json.get(entry.getKey()));
        }
        return constructor.newInstance(arguments);
    }

    private Object bindBean(Map<?, ?> json) throws ReflectiveOperationException {
        Object bean = constructor.newInstance();
        for (Map.Entry<?, ?> entry : json.entrySet()) {
            String name = (String) entry.getKey();
            Member member = members.get(event ? fold(name) : name);
            if (member == null) {
                continue;
            }
            Object value = bind(name, member, entry.getValue());
            if (member.field != null) {
                member.field.set(bean, value);
            } else {
                member.property.set(bean, value);
            }
        }
        return bean;
    }

    /** A failure tells the way to the member. */
    private Object bind(String name, Member member, Object json) {
        try {
            return member.binder.bind(json);
        } catch (JsonException e) {
            throw new JsonException(e.getMessage() + " (" + raw.getName() + "." + name + ")", e.getCause());
        }
    }
}
