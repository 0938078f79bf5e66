import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.codelibs.opensearch.runner.node.OpenSearchRunnerNode;
import org.opensearch.common.logging.LogConfigurator;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.plugins.Plugin;

/** Starts the real engine on HOME, without its distribution: java -cp "libs/*" OpenSearch.java HOME */
public class OpenSearch {
    // The module classes are named differently in 2.x and 3.x: take what is there.
    private static final String[] MODULES = {
        "org.opensearch.transport.Netty4", "org.opensearch.analysis.common.CommonAnalysis",
        "org.opensearch.index.mapper.MapperExtras", "org.opensearch.index.reindex.Reindex",
        "org.opensearch.painless.Painless", "org.opensearch.percolator.Percolator",
        "org.opensearch.join.ParentJoin",
    };

    public static void main(String[] arguments) throws Exception {
        System.setProperty("opensearch.path.home", arguments[0]);
        Settings settings = Settings.builder().put("path.home", arguments[0]).build();
        Environment environment = InternalSettingsPreparer.prepareEnvironment(
            settings, Map.of(), Path.of(arguments[0], "config"), () -> "n1");
        LogConfigurator.configure(environment);
        OpenSearchRunnerNode node = new OpenSearchRunnerNode(environment, modules());
        CountDownLatch stopped = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
            } catch (Exception error) {
                error.printStackTrace();
            }
            stopped.countDown();
        }));
        node.start();
        stopped.await();
    }

    private static Collection<Class<? extends Plugin>> modules() throws ClassNotFoundException {
        Collection<Class<? extends Plugin>> found = new ArrayList<>();
        for (String name : MODULES) {
            found.add(module(name).asSubclass(Plugin.class));
        }
        return found;
    }

    private static Class<?> module(String name) throws ClassNotFoundException {
        try {
            return Class.forName(name + "ModulePlugin");
        } catch (ClassNotFoundException absent) {
            return Class.forName(name + "Plugin");
        }
    }
}
