package thaw.java;

import java.lang.reflect.Array;
import java.lang.reflect.GenericArrayType;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;
import java.lang.reflect.WildcardType;
import java.util.HashMap;
import java.util.Map;

/** What the type arguments of classes are, and of the interfaces and superclasses above them. */
final class Generics {
    private Generics() {}

    /** The arguments with which type, resolved, is a target; null when one of them is not known. */
    static Type[] arguments(Type type, Class<?> target) {
        Map<TypeVariable<?>, Type> known = new HashMap<>();
        if (!collect(type, target, known)) {
            return null;
        }
        TypeVariable<?>[] parameters = target.getTypeParameters();
        Type[] arguments = new Type[parameters.length];
        for (int i = 0; i < parameters.length; i++) {
            arguments[i] = resolve(parameters[i], known);
            if (arguments[i] instanceof TypeVariable) {
                Type bound = ((TypeVariable<?>) arguments[i]).getBounds()[0];
                if (bound == Object.class) {
                    return null;
                }
                arguments[i] = resolve(bound, known);
            }
        }
        return arguments;
    }

    /** Binds the variables of type and of all between it and target, which is Object for all above. */
    private static boolean collect(Type type, Class<?> target, Map<TypeVariable<?>, Type> known) {
        if (type == null) {
            return false;
        }
        Class<?> raw = raw(type);
        if (!target.isAssignableFrom(raw) && target != Object.class) {
            return false;
        }
        if (type instanceof ParameterizedType) {
            Type[] arguments = ((ParameterizedType) type).getActualTypeArguments();
            TypeVariable<?>[] parameters = raw.getTypeParameters();
            for (int i = 0; i < parameters.length; i++) {
                known.put(parameters[i], resolve(arguments[i], known));
            }
        }
        boolean found = raw == target;
        found |= collect(raw.getGenericSuperclass(), target, known);
        for (Type face : raw.getGenericInterfaces()) {
            found |= collect(face, target, known);
        }
        return found;
    }

    /** All variables that are bound in type and above it. */
    static Map<TypeVariable<?>, Type> variables(Type type) {
        Map<TypeVariable<?>, Type> known = new HashMap<>();
        collect(type, Object.class, known);
        return known;
    }

    /** Puts what is known into type. */
    static Type resolve(Type type, Map<TypeVariable<?>, Type> known) {
        if (type instanceof TypeVariable) {
            Type value = known.get(type);
            return value == null ? type : value;
        }
        if (type instanceof ParameterizedType) {
            ParameterizedType whole = (ParameterizedType) type;
            Type[] arguments = whole.getActualTypeArguments();
            for (int i = 0; i < arguments.length; i++) {
                arguments[i] = resolve(arguments[i], known);
            }
            return new Parameterized((Class<?>) whole.getRawType(), arguments);
        }
        if (type instanceof GenericArrayType) {
            Type element = resolve(((GenericArrayType) type).getGenericComponentType(), known);
            return new Parameterized(Array.newInstance(raw(element), 0).getClass(), new Type[] {element});
        }
        return type;
    }

    static Class<?> raw(Type type) {
        if (type instanceof Class) {
            return (Class<?>) type;
        }
        if (type instanceof ParameterizedType) {
            return (Class<?>) ((ParameterizedType) type).getRawType();
        }
        if (type instanceof WildcardType) {
            return raw(((WildcardType) type).getUpperBounds()[0]);
        }
        if (type instanceof TypeVariable) {
            return raw(((TypeVariable<?>) type).getBounds()[0]);
        }
        return Array.newInstance(raw(((GenericArrayType) type).getGenericComponentType()), 0).getClass();
    }

    /** A type with its arguments put in; for an array the argument is the element. */
    private static final class Parameterized implements ParameterizedType {
        private final Class<?> raw;
        private final Type[] arguments;

        Parameterized(Class<?> raw, Type[] arguments) {
            this.raw = raw;
            this.arguments = arguments;
        }

        @Override
        public Type[] getActualTypeArguments() {
            return arguments.clone();
        }

        @Override
        public Type getRawType() {
            return raw;
        }

        @Override
        public Type getOwnerType() {
            return null;
        }

        @Override
        public String toString() {
            return raw.getName();
        }
    }
}
