package example;

import com.amazonaws.services.lambda.runtime.Context;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.math.BigDecimal;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

public class Methods {
    private int calls;

    public Map<String, Object> echo(Map<String, Object> event) {
        return event;
    }

    public Object any(Object event) {
        return event;
    }

    public static String shout(String text, Context context) {
        return text.toUpperCase() + "!";
    }

    public int count() {
        return ++calls;
    }

    public long sum(List<Integer> numbers) {
        long sum = 0;
        for (int n : numbers) {
            sum += n;
        }
        return sum;
    }

    public double half(int n) {
        return n / 2.0;
    }

    public boolean not(boolean b) {
        return !b;
    }

    public BigDecimal exact(BigDecimal n) {
        return n;
    }

    public void nothing(String event) {
        System.out.println("got " + event);
    }

    public Optional<String> maybe(String text) {
        return text.isEmpty() ? Optional.empty() : Optional.of(text);
    }

    public byte[] reverse(byte[] data) {
        for (int i = 0; i < data.length / 2; i++) {
            byte b = data[i];
            data[i] = data[data.length - 1 - i];
            data[data.length - 1 - i] = b;
        }
        return data;
    }

    public Map<String, List<Person>> people(Map<String, List<Person>> people) {
        for (List<Person> list : people.values()) {
            for (Person person : list) {
                person.setAge(person.getAge() + 1);
            }
        }
        return people;
    }

    public Person person(Person person, Context context) {
        return person;
    }

    public Box<Person> box(Box<Person> box) {
        box.getContent().setName(box.getContent().getName() + "!");
        return box;
    }

    public void copy(InputStream in, OutputStream out) throws IOException {
        byte[] buffer = new byte[8192];
        for (int n; (n = in.read(buffer)) >= 0; ) {
            out.write(buffer, 0, n);
        }
    }

    public String overloaded(String text) {
        return "one";
    }

    public String overloaded(String text, Context context) {
        return "two";
    }

    public String overloaded(String a, String b, Context context) {
        return "never";
    }

    public Map<String, Object> context(Object event, Context context) {
        Map<String, Object> out = new LinkedHashMap<>();
        out.put("id", context.getAwsRequestId());
        out.put("name", context.getFunctionName());
        out.put("version", context.getFunctionVersion());
        out.put("arn", context.getInvokedFunctionArn());
        out.put("memory", context.getMemoryLimitInMB());
        out.put("group", context.getLogGroupName());
        out.put("stream", context.getLogStreamName());
        out.put("left", context.getRemainingTimeInMillis() > 50_000 && context.getRemainingTimeInMillis() <= 60_000);
        out.put("identity", context.getIdentity() == null);
        out.put("custom", context.getClientContext().getCustom());
        out.put("title", context.getClientContext().getClient().getAppTitle());
        out.put("trace", System.getProperty("com.amazonaws.xray.traceHeader"));
        out.put("loader", Thread.currentThread().getContextClassLoader() == Methods.class.getClassLoader());
        context.getLogger().log("logged\nover two lines");
        com.amazonaws.services.lambda.runtime.LambdaRuntime.getLogger().log("by the runtime's logger");
        return out;
    }

    public void logs(Object event, Context context) {
        com.amazonaws.services.lambda.runtime.LambdaLogger logger = context.getLogger();
        logger.log("plain \"text\"\n");
        logger.log("hidden", com.amazonaws.services.lambda.runtime.logging.LogLevel.INFO);
        logger.log("warned", com.amazonaws.services.lambda.runtime.logging.LogLevel.WARN);
        logger.log("{\"own\":1}".getBytes(java.nio.charset.StandardCharsets.UTF_8));
        System.out.println("printed");
        if ("fail".equals(event)) {
            throw new IllegalStateException("no");
        }
    }

    public List<Object> values() {
        Map<Object, Object> map = new LinkedHashMap<>();
        map.put(1, null);
        map.put(Color.RED, "ü\u0001\uD83D\uDE00\"");
        return Arrays.asList(map, new int[] {1, 2}, 'c', Double.NaN, 1e300, new java.util.Date(5), Color.BLUE, null,
                java.util.UUID.fromString("00000000-0000-0001-0000-000000000002"), java.time.LocalDate.of(2020, 2, 3));
    }

    public Object cyclic() {
        Map<String, Object> map = new LinkedHashMap<>();
        map.put("self", map);
        return map;
    }

    public String output() {
        System.out.println("out ü\nsecond");
        System.err.println("err");
        System.out.print("no newline");
        return System.getProperty("file.encoding") + " " + System.getProperty("sun.jnu.encoding");
    }

    public String resource() throws IOException {
        try (InputStream in = Methods.class.getClassLoader().getResourceAsStream("greeting.txt")) {
            byte[] data = new byte[100];
            return new String(data, 0, in.read(data), "UTF-8");
        }
    }

    public int exit(int status) {
        System.exit(status);
        return 0;
    }

    public String fail(String how) throws Exception {
        switch (how) {
            case "checked":
                throw new Exception("checked ü");
            case "cause":
                throw new IllegalStateException("outer", new IOException("inner"));
            case "silent":
                throw new RuntimeException();
            case "stack":
                return fail(how) + "x";
            case "memory":
                Object[] hog = null;
                while (true) {
                    hog = new Object[] {hog, new byte[8 << 20]};
                }
            case "assert":
                throw new AssertionError("asserted");
            default:
                return "fine";
        }
    }

    private String hidden(String text) {
        return text;
    }

    public enum Color {
        RED,
        BLUE
    }

    public static class Box<T> {
        public String label;
        private T content;

        public T getContent() {
            return content;
        }

        public void setContent(T content) {
            this.content = content;
        }
    }

    public static class Person {
        private String name;
        private int age;
        private Color favourite;
        private boolean tall;
        private Person friend;
        private String secret = "s";

        public String getName() {
            return name;
        }

        public void setName(String name) {
            this.name = name;
        }

        public int getAge() {
            return age;
        }

        public void setAge(int age) {
            this.age = age;
        }

        public Color getFavourite() {
            return favourite;
        }

        public void setFavourite(Color favourite) {
            this.favourite = favourite;
        }

        public boolean isTall() {
            return tall;
        }

        public void setTall(boolean tall) {
            this.tall = tall;
        }

        public Person getFriend() {
            return friend;
        }

        public void setFriend(Person friend) {
            this.friend = friend;
        }
    }
}
