package thaw.java;

import com.amazonaws.services.lambda.runtime.CustomPojoSerializer;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.reflect.Type;
import java.nio.charset.StandardCharsets;
import java.util.Iterator;
import java.util.ServiceLoader;

/** Makes the Body of a type: with the function's CustomPojoSerializer if it brings one, else with Binder and Json. */
final class Bodies {
    private final CustomPojoSerializer custom;

    Bodies(ClassLoader loader) {
        custom = find(loader);
    }

    private static CustomPojoSerializer find(ClassLoader loader) {
        if (loader.getResource("META-INF/services/" + CustomPojoSerializer.class.getName()) == null) {
            return null;
        }
        Iterator<CustomPojoSerializer> all = ServiceLoader.load(CustomPojoSerializer.class, loader).iterator();
        CustomPojoSerializer first = all.hasNext() ? all.next() : null;
        if (all.hasNext()) {
            throw new Fault("Too many serializers provided inside the META-INF/services folder, only one is allowed");
        }
        return first;
    }

    Body of(Type type) {
        if (type == void.class || type == Void.class) {
            return new NullBody();
        }
        return custom == null ? new OwnBody(Binder.of(type)) : new CustomBody(custom, type);
    }

    static RuntimeException parsing(Throwable cause) {
        return cut(new RuntimeException("An error occurred during JSON parsing", cause));
    }

    static RuntimeException serialization(Throwable cause) {
        return cut(new RuntimeException("An error occurred during JSON serialization of response", cause));
    }

    private static RuntimeException cut(RuntimeException e) {
        Fault.cutTrace(e);
        return e;
    }

    private static final class NullBody implements Body {
        @Override
        public Object read(byte[] json) {
            return null;
        }

        @Override
        public void write(Object value, OutputStream json) {
            try {
                json.write(new byte[] {'n', 'u', 'l', 'l'});
            } catch (IOException e) {
                throw serialization(e);
            }
        }
    }

    private static final class OwnBody implements Body {
        private final Binder binder;

        OwnBody(Binder binder) {
            this.binder = binder;
        }

        @Override
        public Object read(byte[] json) {
            try {
                return binder.bind(Json.parseExact(new String(json, StandardCharsets.UTF_8)));
            } catch (RuntimeException e) {
                throw parsing(e);
            }
        }

        @Override
        public void write(Object value, OutputStream json) {
            try {
                json.write(Json.write(value).getBytes(StandardCharsets.UTF_8));
            } catch (RuntimeException | IOException e) {
                throw serialization(e);
            }
        }
    }

    private static final class CustomBody implements Body {
        private final CustomPojoSerializer custom;
        private final Type type;

        CustomBody(CustomPojoSerializer custom, Type type) {
            this.custom = custom;
            this.type = type;
        }

        @Override
        public Object read(byte[] json) {
            try {
                return custom.fromJson(new ByteArrayInputStream(json), type);
            } catch (RuntimeException e) {
                throw parsing(e);
            }
        }

        @Override
        public void write(Object value, OutputStream json) {
            try {
                custom.toJson(value, json, type);
            } catch (RuntimeException e) {
                throw serialization(e);
            }
        }
    }
}
