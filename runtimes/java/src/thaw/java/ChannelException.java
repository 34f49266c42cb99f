package thaw.java;

import java.io.IOException;

/** The channel broke while a response was sent; not the function's failure. */
final class ChannelException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    ChannelException(IOException cause) {
        super(cause);
    }

    IOException cause() {
        return (IOException) getCause();
    }
}
