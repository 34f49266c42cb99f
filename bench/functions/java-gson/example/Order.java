package example;

import com.google.gson.Gson;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;

/** Adds up an order. Gson, a JSON library that the package brings in its lib folder, reads and writes it. */
public final class Order {
    static final class Item {
        String name;
        long price;
    }

    static final class Request {
        String customer = "nobody";
        List<Item> items = List.of();
    }

    private static final Gson GSON = new Gson();

    static {
        GSON.getAdapter(Request.class); // reflection on the classes is part of init, as in a real function
    }

    public void handle(InputStream in, OutputStream out) throws IOException {
        Request order = GSON.fromJson(new InputStreamReader(in, StandardCharsets.UTF_8), Request.class);
        long total = order.items.stream().mapToLong(item -> item.price).sum();
        out.write(GSON.toJson(Map.of("customer", order.customer, "total", total)).getBytes(StandardCharsets.UTF_8));
    }

    /** The same start without a platform. */
    public static void main(String[] args) {
        GSON.toJson(Map.of());
    }
}
