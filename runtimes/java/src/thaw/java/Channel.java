package thaw.java;

import java.io.EOFException;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.lang.reflect.Constructor;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Map;

/**
 * The frames on descriptor 3: a byte of type, the lengths of meta and body in four bytes each, meta, body.
 *
 * <p>Java has no way to a socket by its number but FileDescriptor's private constructor. The library's door for
 * serializers opens it at no cost. Opening java.io for reflection, by the command line or the jar's manifest, costs the
 * start 15 to 30 ms, as the JVM then leaves its archived modules aside. Processes that the JVM starts get none but the
 * standard descriptors.
 */
final class Channel {
    private static final int HEADER = 9;
    private static final int SMALL = 64 * 1024;

    private final FileInputStream in;
    private final FileOutputStream out;
    private final byte[] buffer = new byte[SMALL];

    Channel() throws ReflectiveOperationException {
        Constructor<?> constructor = FileDescriptor.class.getDeclaredConstructor(int.class);
        if (System.getProperty("java.specification.version").startsWith("1.")) {
            constructor.setAccessible(true);
        } else {
            Class<?> type = Class.forName("sun.reflect.ReflectionFactory"); // by name: Java 8 has it, but not documented
            Object factory = type.getMethod("getReflectionFactory").invoke(null);
            constructor = (Constructor<?>) type.getMethod("newConstructorForSerialization", Class.class, Constructor.class)
                    .invoke(factory, FileDescriptor.class, constructor);
        }
        FileDescriptor descriptor = (FileDescriptor) constructor.newInstance(3);
        in = new FileInputStream(descriptor);
        out = new FileOutputStream(descriptor);
    }

    /** The next invocation; null when the host has closed the channel. */
    Invocation receive() throws IOException {
        int have = in.read(buffer, 0, SMALL);
        if (have < 0) {
            return null;
        }
        have = fill(buffer, have, HEADER);
        int metaSize = number(buffer, 1);
        int bodySize = number(buffer, 5);
        byte[] frame = buffer;
        if (HEADER + metaSize + bodySize > SMALL) {
            frame = Arrays.copyOf(buffer, HEADER + metaSize + bodySize);
        }
        fill(frame, have, HEADER + metaSize + bodySize);
        return new Invocation(
                Arrays.copyOfRange(frame, HEADER, HEADER + metaSize),
                Arrays.copyOfRange(frame, HEADER + metaSize, HEADER + metaSize + bodySize));
    }

    private int fill(byte[] frame, int have, int wanted) throws IOException {
        while (have < wanted) {
            int n = in.read(frame, have, wanted - have);
            if (n < 0) {
                throw new EOFException("the host ended within a frame");
            }
            have += n;
        }
        return have;
    }

    void send(char type, String meta, Map<String, Object> body) throws IOException {
        byte[] json = Json.write(body).getBytes(StandardCharsets.UTF_8);
        send(type, meta, json, json.length);
    }

    void send(char type, String meta, byte[] body, int size) throws IOException {
        byte[] metaBytes = meta.getBytes(StandardCharsets.UTF_8);
        int head = HEADER + metaBytes.length;
        boolean together = size < SMALL;
        byte[] frame = new byte[together ? head + size : head];
        frame[0] = (byte) type;
        putNumber(frame, 1, metaBytes.length);
        putNumber(frame, 5, size);
        System.arraycopy(metaBytes, 0, frame, HEADER, metaBytes.length);
        if (together) {
            System.arraycopy(body, 0, frame, head, size);
        }
        try {
            out.write(frame);
            if (!together) {
                out.write(body, 0, size);
            }
        } catch (IOException e) {
            throw new ChannelException(e);
        }
    }

    private static int number(byte[] data, int at) {
        return (data[at] & 0xff) << 24 | (data[at + 1] & 0xff) << 16 | (data[at + 2] & 0xff) << 8 | data[at + 3] & 0xff;
    }

    private static void putNumber(byte[] data, int at, int value) {
        for (int i = 0; i < 4; i++) {
            data[at + i] = (byte) (value >>> 24 - 8 * i);
        }
    }
}
