//! Whom a download by `https:` trusts.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

/// The authorities that browsers know (they are in the program), and those of this machine: of its store, or of the files that
/// the environment names in `SSL_CERT_FILE` and `SSL_CERT_DIR`. Read once for a process.
pub(super) fn client() -> Arc<ClientConfig> {
    static CLIENT: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    // What cannot be read there is left out: the authorities in the program do for most servers.
    CLIENT
        .get_or_init(|| Arc::new(trusting(rustls_native_certs::load_native_certs().certs)))
        .clone()
}

fn trusting(more: Vec<CertificateDer<'static>>) -> ClientConfig {
    let mut authorities = RootCertStore::empty();
    authorities.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    authorities.add_parsable_certificates(more);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the ciphers of all versions")
        .with_root_certificates(authorities)
        .with_no_client_auth()
}

#[cfg(test)]
mod tests {
    use super::super::{Fetch, http::Download};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::Arc;

    /// Where the child of the test asks.
    const URL: &str = "CLIP_BURN_TEST_URL";

    /// Files of tests/reference/tls.sh.
    fn fixture(name: &str) -> PathBuf {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/tls");
        PathBuf::from(folder).join(name)
    }

    /// A server for `localhost` with a certificate by an authority that nobody knows.
    fn server() -> Arc<ServerConfig> {
        let [certificate, key] =
            ["server.der", "server_key.der"].map(|name| std::fs::read(fixture(name)).unwrap());
        let key = PrivateKeyDer::try_from(key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(certificate)], key);
        Arc::new(config.unwrap())
    }

    #[test]
    fn an_authority_that_ssl_cert_file_names_is_trusted_and_another_one_is_not() {
        let config = server();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // Serves until the test ends; who distrusts it hangs up in the handshake.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(config.clone()).unwrap();
                let mut stream = StreamOwned::new(connection, stream.unwrap());
                let (mut request, mut byte) = (Vec::new(), [0]);
                while !request.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                    request.push(byte[0]);
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nshard");
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        // The variable is read once, so by processes of their own.
        let child = |trusted: bool, host: &str| {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args([
                "--exact",
                "fetch::tls::tests::child",
                "--ignored",
                "--nocapture",
            ]);
            child.env(URL, format!("https://{host}:{port}/0.tar"));
            child.env_remove("SSL_CERT_DIR").env_remove("SSL_CERT_FILE");
            if trusted {
                child.env("SSL_CERT_FILE", fixture("authority.pem"));
            }
            let output = child.output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let said = child(true, "localhost");
        assert!(said.contains("brought `shard`"), "{said}");
        let said = child(false, "localhost");
        assert!(
            said.contains("UnknownIssuer") && said.contains("SSL_CERT_FILE"),
            "{said}"
        );
        let said = child(true, "127.0.0.1");
        assert!(said.contains("not valid for name"), "{said}");
    }

    #[test]
    #[ignore = "the process of the test above, which starts it"]
    fn child() {
        let fetch = Fetch {
            attempts: 1,
            ..Fetch::default()
        };
        let mut text = String::new();
        let url = std::env::var(URL).unwrap();
        match Download::new(&url, &fetch).read_to_string(&mut text) {
            Ok(_) => println!("brought `{text}`"),
            Err(error) => println!("{error}"),
        }
    }
}
