package example;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;

/** Loads the classes that the file loads.txt of the package names, before it can serve. */
public class Loads {
    static {
        try (BufferedReader names = new BufferedReader(
                new InputStreamReader(Loads.class.getResourceAsStream("/loads.txt"), StandardCharsets.UTF_8))) {
            for (String name = names.readLine(); name != null; name = names.readLine()) {
                Class.forName(name);
            }
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }

    public String echo(String event) {
        return event;
    }
}
