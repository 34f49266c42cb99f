package thaw.java;

import java.io.OutputStream;

/** JSON to and from values of one type. */
interface Body {
    Object read(byte[] json);

    void write(Object value, OutputStream json);
}
