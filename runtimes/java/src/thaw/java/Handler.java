package thaw.java;

import com.amazonaws.services.lambda.runtime.Context;
import java.io.OutputStream;

/** A function's handler, of whatever kind, as bytes to bytes. */
interface Handler {
    void handle(byte[] event, OutputStream response, Context context) throws Throwable;
}
