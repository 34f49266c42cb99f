package thaw.java;

import java.io.IOException;
import java.io.InputStream;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.jar.JarEntry;
import java.util.jar.JarInputStream;

/** Loads what a class-data archive should hold of the runtime itself. */
final class DryRun {
    private DryRun() {}

    static void loadAll() throws IOException, ReflectiveOperationException {
        try (InputStream jar = Main.class.getProtectionDomain().getCodeSource().getLocation().openStream();
                JarInputStream entries = new JarInputStream(jar)) {
            for (JarEntry entry = entries.getNextJarEntry(); entry != null; entry = entries.getNextJarEntry()) {
                String name = entry.getName();
                if (name.endsWith(".class")) {
                    try {
                        Class.forName(name.substring(0, name.length() - 6).replace('/', '.'));
                    } catch (UnsupportedClassVersionError e) {
                        // For a later Java.
                    }
                }
            }
        }
        use();
    }

    /** Goes the ways of an invocation, for the classes of the library on them. */
    private static void use() throws IOException {
        Map<String, Object> value = new LinkedHashMap<>();
        value.put("text", "\u00fc\n");
        value.put("list", Arrays.asList(1, 2.5, true, null));
        Binder.of(Map.class).bind(Json.parseExact(Json.write(value)));
        Binder.of(Sample.class).bind(Json.parseExact("{\"name\":\"a\",\"size\":1}"));
        Json.write(new Sample());
        Fault.json(new RuntimeException("sample", new Exception()));
        new Fault(new RuntimeException("sample"), false).text();
        Handlers.load("java.lang.String::trim", new TaskLoader("/var/task", Main.class.getClassLoader()));
    }

    /** A bean. */
    public static final class Sample {
        private String name;
        private int size;

        public String getName() {
            return name;
        }

        public void setName(String name) {
            this.name = name;
        }

        public int getSize() {
            return size;
        }

        public void setSize(int size) {
            this.size = size;
        }
    }
}
