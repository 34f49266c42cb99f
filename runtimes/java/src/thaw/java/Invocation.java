package thaw.java;

import java.nio.charset.StandardCharsets;

/** One invoke frame. */
final class Invocation {
    final String requestId;
    final long deadline; // Unix time, milliseconds
    final String arn;
    final String traceId;
    final String clientContext;
    final String identity;
    final byte[] event;

    Invocation(byte[] meta, byte[] event) {
        String[] fields = new String(meta, StandardCharsets.UTF_8).split("\0", -1);
        requestId = fields[0];
        deadline = Long.parseLong(fields[1]);
        arn = fields[2];
        traceId = fields[3];
        clientContext = fields[4];
        identity = fields[5];
        this.event = event;
    }
}
