package example;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;

public class Broken {
    public static class InConstructor implements RequestHandler<String, String> {
        public InConstructor() {
            throw new IllegalStateException("no table");
        }

        @Override
        public String handleRequest(String input, Context context) {
            return input;
        }
    }

    public static class InStatic {
        static final String TABLE = table();

        static String table() {
            throw new IllegalStateException("no table");
        }

        public String handle(String input) {
            return input;
        }
    }

    public static class Exits {
        static {
            System.out.println("leaving");
            System.exit(7);
        }

        public String handle(String input) {
            return input;
        }
    }

    public static class NoConstructor {
        NoConstructor(int n) {}

        public String handle(String input) {
            return input;
        }
    }

    public class Inner {
        public String handle(String input) {
            return input;
        }
    }
}
