package example;

/** Greets whoever the event names. A record in, a record out: no library is needed. */
public class Hello {
    public record Request(String name) {}

    public record Greeting(String message, String java) {}

    public Greeting handle(Request request) {
        String name = request == null || request.name() == null ? "world" : request.name();
        return new Greeting("Hello, " + name + "!", System.getProperty("java.version"));
    }
}
