package thaw.java;

import java.io.File;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;

/**
 * Loads the function's classes where AWS looks for them: the task root, then the jars of its lib folder, then those of
 * layers. The packages that the runtime shares with functions come from the runtime, as on AWS, and its others are hidden:
 * so it need not open its jar to look for what only the function has, which costs 5 ms. A class-data archive holds what
 * it loaded, found again by name and checksum, so that it also works for a task root of class files, which the JVM's own
 * class path does not allow.
 */
final class TaskLoader extends URLClassLoader {
    static {
        registerAsParallelCapable();
    }

    private static final String SHARED = "com.amazonaws.services.lambda.runtime.";

    private final ClassLoader own;
    private volatile Queue<Class<?>> found; // null: nobody wants to know
    private volatile Packages packages; // null: it is not measured

    TaskLoader(String root, ClassLoader own) throws MalformedURLException {
        super(urls(root), own.getParent());
        this.own = own;
    }

    @Override
    protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
        if (name.startsWith(SHARED) && isShared(name.substring(SHARED.length()))) {
            try {
                return own.loadClass(name);
            } catch (ClassNotFoundException e) {
                // Of the function's own copy of the library, which has more.
            }
        }
        return super.loadClass(name, resolve);
    }

    @Override
    protected Class<?> findClass(String name) throws ClassNotFoundException {
        Packages packages = this.packages;
        if (packages == null || !packages.measuresThis()) {
            return find(name);
        }
        long outer = packages.enter();
        long start = System.nanoTime();
        boolean there = false;
        try {
            Class<?> type = find(name);
            there = true;
            return type;
        } finally {
            packages.leave(name, start, outer, there);
        }
    }

    private Class<?> find(String name) throws ClassNotFoundException {
        Class<?> type = super.findClass(name);
        Queue<Class<?>> found = this.found;
        if (found != null) {
            found.add(type);
        }
        return type;
    }

    /** From now on it measures what this thread has it load. */
    void measure() {
        packages = new Packages();
    }

    /** What it has measured, null for nothing. From now on it does not. */
    Packages measured() {
        Packages measured = packages;
        packages = null;
        return measured;
    }

    /** From now on it remembers what it loads, for linkAll. */
    void remember() {
        found = new ConcurrentLinkedQueue<>();
    }

    /**
     * Links what was loaded: Java 17 archives no class of a loader like this one that is only loaded, and functions load
     * many before they use them. Nothing is initialised.
     */
    void linkAll() {
        for (Class<?> type : found.toArray(new Class<?>[0])) {
            try {
                type.getDeclaredConstructors(); // the way to link that every Java has
            } catch (LinkageError | TypeNotPresentException e) {
                // It names what the package lacks; the archive does without it.
            }
        }
    }

    /** The package itself and its logging, but not the events. */
    private static boolean isShared(String rest) {
        return rest.indexOf('.') < 0 || rest.startsWith("logging.");
    }

    private static URL[] urls(String root) throws MalformedURLException {
        List<URL> urls = new ArrayList<>();
        urls.add(new URL("file", null, -1, root + "/"));
        for (String folder : new String[] {root + "/lib", "/opt/java/lib"}) {
            String[] names = new File(folder).list();
            if (names == null) {
                continue;
            }
            Arrays.sort(names);
            for (String name : names) {
                if (name.endsWith(".jar")) {
                    urls.add(new URL("file", null, -1, folder + "/" + name));
                }
            }
        }
        return urls.toArray(new URL[0]);
    }
}
