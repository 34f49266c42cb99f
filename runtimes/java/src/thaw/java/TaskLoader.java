package thaw.java;

import java.io.File;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Loads the function's classes where AWS looks for them: the task root, then the jars of its lib folder, then those of
 * layers. A class-data archive holds what it loaded, found again by name and checksum, so that it also works for a task
 * root of class files, which the JVM's own class path does not allow.
 */
final class TaskLoader extends URLClassLoader {
    static {
        registerAsParallelCapable();
    }

    TaskLoader(String root, ClassLoader parent) throws MalformedURLException {
        super(urls(root), parent);
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
