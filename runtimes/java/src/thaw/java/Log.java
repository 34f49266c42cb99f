package thaw.java;

import com.amazonaws.services.lambda.runtime.LambdaLogger;
import com.amazonaws.services.lambda.runtime.logging.LogLevel;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;

/** Messages to the log, each whole however many lines it has: framed in the output pipe, see Output on the host. */
public final class Log {
    /** Whether the function's log is to consist of JSON objects (LoggingConfig's LogFormat), and from which level on. */
    private static final boolean JSON = "JSON".equalsIgnoreCase(System.getenv("AWS_LAMBDA_LOG_FORMAT"));

    private static final LogLevel LEAST = least();

    public static final LambdaLogger LOGGER =
            new LambdaLogger() {
                @Override
                public void log(String message) {
                    log(message, LogLevel.UNDEFINED);
                }

                @Override
                public void log(byte[] message) {
                    log(message, LogLevel.UNDEFINED);
                }

                @Override
                public void log(String message, LogLevel level) {
                    if (!JSON) {
                        message(String.valueOf(message));
                    } else if (wanted(level)) {
                        message(line(String.valueOf(message), level));
                    }
                }

                @Override
                public void log(byte[] message, LogLevel level) {
                    if (!JSON || wanted(level)) { // bytes are what a logging library has laid out itself
                        write(message == null ? "null".getBytes(StandardCharsets.UTF_8) : message);
                    }
                }
            };

    /** The request that is served, for the lines in JSON. */
    private static volatile String requestId;

    private static final int HEADER = 16;
    private static final FileOutputStream OUT = new FileOutputStream(FileDescriptor.out);

    private Log() {}

    static void serving(String id) {
        requestId = id;
    }

    private static LogLevel least() {
        String name = JSON ? System.getenv("AWS_LAMBDA_LOG_LEVEL") : null;
        return name == null ? LogLevel.UNDEFINED : LogLevel.fromString(name);
    }

    private static boolean wanted(LogLevel level) {
        return level == LogLevel.UNDEFINED || level.compareTo(LEAST) >= 0;
    }

    private static String line(String message, LogLevel level) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("timestamp", Clock.FORMAT.format(Instant.now()));
        line.put("level", (level == LogLevel.UNDEFINED ? LogLevel.INFO : level).name());
        line.put("message", message.endsWith("\n") ? message.substring(0, message.length() - 1) : message);
        if (requestId != null) {
            line.put("AWSRequestId", requestId);
        }
        return Json.write(line);
    }

    /** Loaded only where lines are in JSON: it costs a start some milliseconds. */
    private static final class Clock {
        static final DateTimeFormatter FORMAT =
                DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'", Locale.ROOT).withZone(ZoneOffset.UTC);
    }

    /** What went wrong in the function, as AWS's client tells it. */
    static void error(String text) {
        LOGGER.log(text, LogLevel.ERROR);
    }

    private static void message(String text) {
        write(text.getBytes(StandardCharsets.UTF_8));
    }

    private static void write(byte[] message) {
        byte[] frame = new byte[HEADER + message.length];
        put(frame, 0, 4, 0xa55a0003L);
        put(frame, 4, 4, message.length);
        put(frame, 8, 8, System.currentTimeMillis() * 1000);
        System.arraycopy(message, 0, frame, HEADER, message.length);
        flush();
        synchronized (OUT) {
            try {
                OUT.write(frame);
            } catch (IOException e) {
                // Nobody reads the log: there is nobody to tell.
            }
        }
    }

    private static void put(byte[] data, int at, int size, long value) {
        for (int i = 0; i < size; i++) {
            data[at + i] = (byte) (value >>> 8 * (size - 1 - i));
        }
    }

    /** Passes on what the function has written: it may have put buffers in front. */
    static void flush() {
        System.out.flush();
        System.err.flush();
    }

    /** AWS's log4j appenders print the request id that they find in log4j's context. */
    static void tellLog4j(ClassLoader loader, String requestId) {
        put(loader, "org.apache.logging.log4j.ThreadContext", String.class, requestId);
        put(loader, "org.apache.log4j.MDC", Object.class, requestId);
    }

    private static void put(ClassLoader loader, String className, Class<?> valueType, String requestId) {
        try {
            loader.loadClass(className).getMethod("put", String.class, valueType).invoke(null, "AWSRequestId", requestId);
        } catch (ReflectiveOperationException | LinkageError e) {
            // The function uses the other one.
        }
    }
}
