import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * A producer that knows only docs/wire-format.md: the Java client, with keys of its own and its default partitioner.
 *
 * Prints a line for each record: fate, request id (- for one that is no request), key in Base64 (- for none), partition, offset.
 * Fates: committed, aborted.
 *
 * Usage: ForeignProducer.java BOOTSTRAP TOPIC NAME idempotent|transactional|killed RECORDS PER_TRANSACTION FEATURES CODEC...
 *
 * FEATURES is a file with the features of a diamond in each line. `killed` ends the process within a transaction, which the
 * next `transactional` one of the same name aborts.
 */
public class ForeignProducer {
    static final int CUSTOMERS = 25;
    static final int BAD_EVERY = 40;

    record Sent(String id, byte[] key, Future<RecordMetadata> future) {}

    final String topic;
    final String name;
    final List<String> features;
    int sent = 0;

    ForeignProducer(String topic, String name, List<String> features) {
        this.topic = topic;
        this.name = name;
        this.features = features;
    }

    static KafkaProducer<byte[], byte[]> connect(String bootstrap, String codec, String transactionalId) {
        var properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("acks", "all");
        properties.put("enable.idempotence", "true");
        properties.put("compression.type", codec);
        properties.put("linger.ms", "20");
        if (transactionalId != null) {
            properties.put("transactional.id", transactionalId);
        }
        return new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
    }

    /** A customer, no key, an empty one, or bytes that are no text. */
    static byte[] key(int number) {
        return switch (number % 10) {
            case 7 -> null;
            case 8 -> new byte[0];
            case 9 -> new byte[] {0, (byte) 0xff, (byte) 0xfe, (byte) (number / 10 % 5)};
            default -> ("customer-" + number % CUSTOMERS).getBytes(StandardCharsets.UTF_8);
        };
    }

    Sent send(KafkaProducer<byte[], byte[]> producer) {
        int number = sent++;
        boolean bad = number % BAD_EVERY == BAD_EVERY - 1;
        var id = name + "-" + number;
        var value = bad
            ? "no request, but \u00fcmlauts"
            : "{\"request_id\": \"" + id + "\", \"model\": \"diamonds\", \"features\": "
                + features.get(number % features.size()) + "}";
        var key = key(number);
        var future = producer.send(new ProducerRecord<>(topic, key, value.getBytes(StandardCharsets.UTF_8)));
        return new Sent(bad ? "-" : id, key, future);
    }

    List<Sent> send(KafkaProducer<byte[], byte[]> producer, int count) {
        var found = new ArrayList<Sent>();
        for (int n = 0; n < count; n++) {
            found.add(send(producer));
        }
        return found;
    }

    static void print(String fate, List<Sent> records) throws Exception {
        for (var record : records) {
            var key = record.key() == null ? "-" : "=" + Base64.getEncoder().encodeToString(record.key());
            String where;
            try {
                var metadata = record.future().get();
                where = metadata.partition() + " " + metadata.offset();
            } catch (java.util.concurrent.ExecutionException error) {
                if (!fate.equals("aborted")) {
                    throw error;
                }
                where = "- -"; // It was dropped by the client, which had not sent it yet.
            }
            System.out.println(fate + " " + record.id() + " " + key + " " + where);
        }
    }

    public static void main(String[] arguments) throws Exception {
        var bootstrap = arguments[0];
        var mode = arguments[3];
        int records = Integer.parseInt(arguments[4]);
        int each = Integer.parseInt(arguments[5]);
        var self = new ForeignProducer(arguments[1], arguments[2], Files.readAllLines(Path.of(arguments[6])));
        var codecs = List.of(arguments).subList(7, arguments.length);
        for (var codec : codecs) {
            int share = records / codecs.size();
            var id = mode.equals("idempotent") ? null : "foreign-" + self.topic;
            try (var producer = connect(bootstrap, codec, id)) {
                if (id == null) {
                    print("committed", self.send(producer, share));
                    continue;
                }
                producer.initTransactions();
                for (int n = 0; n < share / each; n++) {
                    producer.beginTransaction();
                    var written = self.send(producer, each);
                    if (mode.equals("killed")) {
                        producer.flush();
                        print("aborted", written);
                        System.out.flush();
                        Runtime.getRuntime().halt(9);
                    } else if (n % 3 == 2) {
                        if (n % 2 == 0) {
                            producer.flush(); // Else most of it never leaves the client.
                        }
                        producer.abortTransaction();
                        print("aborted", written);
                    } else {
                        producer.commitTransaction();
                        print("committed", written);
                    }
                }
            }
        }
    }
}
