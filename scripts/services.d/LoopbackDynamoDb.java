import java.lang.reflect.Field;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import org.eclipse.jetty.server.Connector;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import software.amazon.dynamodb.services.local.main.ServerRunner;
import software.amazon.dynamodb.services.local.server.DynamoDBProxyServer;

/**
 * Starts DynamoDB Local on the loopback address only, on the port asked for or a free one, and writes the port to a
 * file once it answers. DynamoDB Local by itself has no option for the address and listens on all of them.
 *
 * <p>Arguments: the port (0 for a free one), the file to write it to, then DynamoDB Local's own options.
 */
public final class LoopbackDynamoDb {
    public static void main(String[] args) throws Exception {
        int port = Integer.parseInt(args[0]);
        Path portFile = Path.of(args[1]);
        String[] options = new String[args.length - 2];
        System.arraycopy(args, 2, options, 0, options.length);

        DynamoDBProxyServer proxy = ServerRunner.createServerFromCommandLineArgs(options);
        Field field = DynamoDBProxyServer.class.getDeclaredField("server");
        field.setAccessible(true);
        Server server = (Server) field.get(proxy);
        for (Connector connector : server.getConnectors()) {
            ((ServerConnector) connector).setHost("127.0.0.1");
            ((ServerConnector) connector).setPort(port);
        }
        server.start();
        int bound = ((ServerConnector) server.getConnectors()[0]).getLocalPort();
        Path draft = portFile.resolveSibling(portFile.getFileName() + ".draft");
        Files.writeString(draft, bound + "\n");
        Files.move(draft, portFile, StandardCopyOption.ATOMIC_MOVE);
        server.join();
    }
}
