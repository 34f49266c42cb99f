package example;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestStreamHandler;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;

public class Stream implements RequestStreamHandler {
    @Override
    public void handleRequest(InputStream input, OutputStream output, Context context) throws IOException {
        int first = input.read();
        if (first == '!') {
            throw new IOException("refused");
        }
        output.write('[');
        for (int b = first; b >= 0; b = input.read()) {
            output.write(b);
        }
        output.write(']');
    }
}
