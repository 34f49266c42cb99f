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

    Bodies(TaskLoader loader) {
        custom = find(loader);
    }

    private static CustomPojoSerializer find(TaskLoader loader) {
        if (loader.findResource("META-INF/services/" + CustomPojoSerializer.class.getName()) == null) {
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
        return custom == null ? new OwnBody(type) : new CustomBody(custom, type);
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

        /** Goes the way of an invocation once: what it loads then comes with the init, which has the whole CPU. */
        OwnBody(Type type) {
            binder = Binder.of(type);
            try {
                binder.prepare();
            } catch (JsonException e) {
                // Each invocation that comes here will tell; a type that is only returned need not be one that can be made.
            }
            Json.write(Binder.of(Object.class).bind(Json.parseExact("{\"a\\n\":[\"b\",1,0.5,true]}")));
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
