package thaw.java;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import com.amazonaws.services.lambda.runtime.RequestStreamHandler;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.Constructor;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Type;
import java.util.ArrayList;
import java.util.List;

/**
 * Makes a Handler of what the function's configuration names: package.Class, which implements one of AWS's interfaces, or
 * package.Class::method.
 *
 * <p>As on AWS, what is wrong with the name is told to each invocation; what the class itself throws while it is loaded
 * or made fails the init.
 */
final class Handlers {
    private Handlers() {}

    /** Throws the Fault that fails the init. */
    static Handler load(String name, TaskLoader loader) {
        int colons = name.lastIndexOf("::");
        String className = colons < 0 ? name : name.substring(0, colons);
        String methodName = colons < 0 ? null : name.substring(colons + 2);
        if (className.isEmpty() || methodName != null && methodName.isEmpty()) {
            return failing(new Fault("Invalid handler: `" + name + "'"));
        }
        Class<?> type;
        try {
            type = Class.forName(className, true, loader);
        } catch (ClassNotFoundException e) {
            return failing(new Fault("Class not found: " + className, e, false));
        } catch (NoClassDefFoundError e) {
            return failing(loadError(className, e));
        } catch (Throwable e) { // a static initialiser may throw anything
            throw loadError(className, e);
        }
        try {
            Bodies bodies = new Bodies(loader);
            return methodName == null ? ofClass(type, bodies) : ofMethod(type, methodName, bodies);
        } catch (Fault fault) {
            if (fault.fatal) {
                throw fault;
            }
            return failing(fault);
        } catch (Throwable e) {
            return failing(new Fault(e, false));
        }
    }

    private static Fault loadError(String className, Throwable e) {
        return new Fault("Error loading class " + className + (e.getMessage() == null ? "" : ": " + e.getMessage()), e, true);
    }

    private static Handler failing(Fault fault) {
        return new Handler() {
            @Override
            public void handle(byte[] event, OutputStream response, Context context) {
                throw fault;
            }
        };
    }

    private static Handler ofClass(Class<?> type, Bodies bodies) throws Throwable {
        if (RequestStreamHandler.class.isAssignableFrom(type)) {
            RequestStreamHandler handler = (RequestStreamHandler) make(type);
            return new Handler() {
                @Override
                public void handle(byte[] event, OutputStream response, Context context) throws IOException {
                    handler.handleRequest(new ByteArrayInputStream(event), response, context);
                }
            };
        }
        if (!RequestHandler.class.isAssignableFrom(type)) {
            throw new Fault("Class does not implement an appropriate handler interface: " + type.getName());
        }
        Type[] types = Generics.arguments(type, RequestHandler.class);
        if (types == null) {
            throw new Fault("Class " + type.getName() + " does not implement RequestHandler with concrete type parameters");
        }
        @SuppressWarnings("unchecked")
        RequestHandler<Object, Object> handler = (RequestHandler<Object, Object>) make(type);
        Body input = bodies.of(types[0]);
        Body output = bodies.of(types[1]);
        return new Handler() {
            @Override
            public void handle(byte[] event, OutputStream response, Context context) {
                output.write(handler.handleRequest(input.read(event), context), response);
            }
        };
    }

    private static Object make(Class<?> type) throws Throwable {
        Constructor<?> constructor;
        try {
            constructor = type.getConstructor();
        } catch (NoSuchMethodException e) {
            if (type.getEnclosingClass() != null && !Modifier.isStatic(type.getModifiers())) {
                throw new Exception("Class " + type.getName() + " cannot be instantiated because it is a non-static inner class");
            }
            throw new Exception("Class " + type.getName() + " has no public zero-argument constructor", e);
        }
        try {
            constructor.setAccessible(true); // of a class that is not public itself
            return constructor.newInstance();
        } catch (InvocationTargetException e) {
            throw new Fault(e.getCause() == null ? e : e.getCause(), true);
        }
    }

    // --- Methods ----------------------------------------------------------------------------------------------------

    private static Handler ofMethod(Class<?> type, String name, Bodies bodies) throws Throwable {
        Method[] all;
        try {
            all = type.getMethods();
        } catch (NoClassDefFoundError e) {
            throw new Fault("Error loading method " + name + " on class " + type.getName(), e, false);
        }
        List<Method> named = new ArrayList<>();
        for (Method method : all) {
            if (method.getName().equals(name)) {
                named.add(method);
            }
        }
        if (named.size() > 1) {
            named.sort((a, b) -> a.isBridge() != b.isBridge() ? (a.isBridge() ? 1 : -1) : weight(b) - weight(a));
        }
        for (Method method : named) {
            if (fits(method)) {
                return ofMethod(type, method, bodies);
            }
        }
        throw new Fault(
                "No public method named " + name + " with appropriate method signature found on class " + type.getName());
    }

    /** Of several methods the one with most parameters is taken, where a Context at the end counts twice. */
    private static int weight(Method method) {
        return method.getParameterCount() + (endsWithContext(method) ? 1 : 0);
    }

    private static boolean endsWithContext(Method method) {
        Class<?>[] types = method.getParameterTypes();
        return types.length > 0 && types[types.length - 1] == Context.class;
    }

    /** Whether the parameters are one of: (), (T), (InputStream, OutputStream), each with or without a Context at the end. */
    private static boolean fits(Method method) {
        Class<?>[] types = method.getParameterTypes();
        int count = types.length - (endsWithContext(method) ? 1 : 0);
        if (count == 2 && types[0] == InputStream.class && types[1] == OutputStream.class) {
            return true;
        }
        boolean fits = count == 0 || count == 1 && types[0] != Context.class;
        if (!fits) {
            System.err.println("Ignoring " + method + ": a handler has the parameters (T), (T, Context), "
                    + "(InputStream, OutputStream) or (InputStream, OutputStream, Context)");
        }
        return fits;
    }

    private static Handler ofMethod(Class<?> type, Method method, Bodies bodies) throws Throwable {
        Object instance = Modifier.isStatic(method.getModifiers()) ? null : make(type);
        method.setAccessible(true); // of a class that is not public itself
        return new MethodHandler(method, instance, bodies);
    }

    private static final class MethodHandler implements Handler {
        private final Method method;
        private final Object instance;
        private final int count;
        private final boolean withContext;
        private final boolean in;
        private final boolean out;
        private final Body input; // null: the event is not bound
        private final Body output; // null: the method writes the response itself

        MethodHandler(Method method, Object instance, Bodies bodies) {
            this.method = method;
            this.instance = instance;
            Type[] types = method.getGenericParameterTypes();
            count = types.length;
            withContext = endsWithContext(method);
            int last = count - (withContext ? 1 : 0) - 1;
            in = last >= 0 && types[0] == InputStream.class;
            out = last >= 0 && types[last] == OutputStream.class;
            input = last < 0 || in || out ? null : bodies.of(types[0]);
            output = out ? null : bodies.of(in ? void.class : method.getGenericReturnType());
        }

        @Override
        public void handle(byte[] event, OutputStream response, Context context) throws Throwable {
            Object[] arguments = new Object[count];
            int i = 0;
            if (in) {
                arguments[i++] = new ByteArrayInputStream(event);
            }
            if (out) {
                arguments[i++] = response;
            }
            if (input != null) {
                arguments[i++] = input.read(event);
            }
            if (withContext) {
                arguments[i] = context;
            }
            Object value;
            try {
                value = method.invoke(instance, arguments);
            } catch (InvocationTargetException e) {
                throw e.getCause() == null ? e : e.getCause();
            }
            if (output != null) {
                output.write(value, response);
            }
        }
    }
}
