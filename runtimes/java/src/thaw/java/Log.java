package thaw.java;

import com.amazonaws.services.lambda.runtime.LambdaLogger;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;

/** Messages to the log, each whole however many lines it has: framed in the output pipe, see Output on the host. */
public final class Log {
    public static final LambdaLogger LOGGER =
            new LambdaLogger() {
                @Override
                public void log(String message) {
                    message(String.valueOf(message));
                }

                @Override
                public void log(byte[] message) {
                    write(message == null ? "null".getBytes(StandardCharsets.UTF_8) : message);
                }
            };

    private static final int HEADER = 16;
    private static final FileOutputStream OUT = new FileOutputStream(FileDescriptor.out);

    private Log() {}

    static void message(String text) {
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
