//! TLS rules, headers, and conversations with an SMTP server that the test owns.

use super::*;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

#[test]
fn mail_leaves_this_machine_only_by_tls() {
    for (url, expected) in [
        ("smtps://mail.example.com", "wrapper"),
        ("smtps://127.0.0.1:465", "wrapper"),
        ("smtp://mail.example.com:587", "required"),
        ("smtp://10.0.0.1:25", "required"),
        ("smtp://localhost:25", "none"),
        ("smtp://[::1]:25", "none"),
    ] {
        let found = match MailServer::parse(url).unwrap().tls_mode().unwrap() {
            Tls::Wrapper(_) => "wrapper",
            Tls::Required(_) => "required",
            Tls::None => "none",
            Tls::Opportunistic(_) => "opportunistic",
        };
        assert_eq!(found, expected, "{url}");
    }
}

fn test_email<'a>(sender: &'a Mailbox, recipients: &'a [Mailbox], subject: &str) -> OutgoingEmail<'a> {
    OutgoingEmail {
        sender,
        recipients,
        content: EmailContent { subject: subject.to_owned(), text: "t\u{e9}\n".to_owned() },
        message_id: "<a.opened@example.com>".to_owned(),
        in_reply_to: Some("<b@example.com>".to_owned()),
    }
}

#[test]
fn no_text_adds_a_header_to_a_mail() {
    let sender: Mailbox = "Durward <durward@example.com>".parse().unwrap();
    let recipients: Vec<Mailbox> = vec!["oncall@example.com".parse().unwrap()];
    let email = test_email(&sender, &recipients, "a\r\nBcc: eve@example.com\r\n\r\nx");
    let text = String::from_utf8(compose_email(&email).unwrap().formatted()).unwrap();
    let (head, _body) = text.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_lowercase().contains("\nbcc"), "{head}");
    for expected in [
        "Message-ID: <a.opened@example.com>",
        "In-Reply-To: <b@example.com>",
        "Auto-Submitted: auto-generated",
    ] {
        assert!(head.contains(expected), "{expected}: {head}");
    }
}

/// An SMTP server on loopback that answers `RCPT` by the first word of the address: `gone` does not exist (550), `full` has no
/// space now (452), everyone else is accepted.
struct FakeSmtpServer {
    server: MailServer,
    /// The recipients of each mail that was accepted.
    delivered: Arc<Mutex<Vec<Vec<String>>>>,
}

impl FakeSmtpServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let delivered = Arc::new(Mutex::new(Vec::new()));
        let accepted = delivered.clone();
        tokio::spawn(async move {
            while let Ok((stream, _peer)) = listener.accept().await {
                tokio::spawn(Self::converse(stream, accepted.clone()));
            }
        });
        Self { server: MailServer::parse(&format!("smtp://127.0.0.1:{port}")).unwrap(), delivered }
    }

    async fn converse(stream: TcpStream, delivered: Arc<Mutex<Vec<Vec<String>>>>) -> std::io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let mut recipients = Vec::new();
        let mut is_in_data = false;
        writer.write_all(b"220 fake\r\n").await?;
        while let Some(line) = lines.next_line().await? {
            let reply = if is_in_data {
                if line != "." {
                    continue;
                }
                is_in_data = false;
                delivered.lock().unwrap().push(std::mem::take(&mut recipients));
                "250 accepted"
            } else {
                match line.get(..4).unwrap_or_default() {
                    "RCPT" if line.contains("<gone") => "550 no such user",
                    "RCPT" if line.contains("<full") => "452 mailbox full",
                    "RCPT" => {
                        let address = line.split(['<', '>']).nth(1).unwrap_or_default();
                        recipients.push(address.to_owned());
                        "250 ok"
                    }
                    "DATA" => {
                        is_in_data = true;
                        "354 go ahead"
                    }
                    "MAIL" | "RSET" => {
                        recipients.clear();
                        "250 ok"
                    }
                    "QUIT" => "221 bye",
                    _ => "250 ok",
                }
            };
            writer.write_all(format!("{reply}\r\n").as_bytes()).await?;
        }
        Ok(())
    }

    async fn send(&self, recipients: &[&str]) -> Result<Option<String>, SendFailure> {
        let sender: Mailbox = "durward@example.com".parse().unwrap();
        let recipients: Vec<Mailbox> = recipients.iter().map(|one| one.parse().unwrap()).collect();
        let transport = self.server.build_transport(&sender).unwrap();
        send_email(&transport, test_email(&sender, &recipients, "subject")).await
    }

    fn delivered(&self) -> Vec<Vec<String>> {
        self.delivered.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn one_mail_goes_to_all_recipients() {
    let smtp = FakeSmtpServer::start().await;
    assert_eq!(smtp.send(&["ann@example.com", "bea@example.com"]).await, Ok(None));
    assert_eq!(smtp.delivered(), [["ann@example.com", "bea@example.com"]]);
}

#[tokio::test]
async fn a_refused_recipient_does_not_keep_the_mail_from_the_others() {
    let smtp = FakeSmtpServer::start().await;
    let refusals = smtp.send(&["gone@example.com", "ann@example.com"]).await.unwrap().unwrap();
    assert!(refusals.contains("gone@example.com") && !refusals.contains("ann"), "{refusals}");
    assert_eq!(smtp.delivered(), [["ann@example.com"]]);
}

#[tokio::test]
async fn a_mail_that_every_recipient_refuses_fails_permanently() {
    let smtp = FakeSmtpServer::start().await;
    let failure = smtp.send(&["gone@example.com", "gone-too@example.com"]).await.unwrap_err();
    assert!(failure.is_permanent(), "{failure}");
    assert_eq!(smtp.delivered(), [] as [Vec<String>; 0]);
}

#[tokio::test]
async fn a_temporary_refusal_is_retried_as_a_whole() {
    let smtp = FakeSmtpServer::start().await;
    let failure = smtp.send(&["ann@example.com", "full@example.com"]).await.unwrap_err();
    assert!(!failure.is_permanent(), "{failure}");
    assert_eq!(smtp.delivered(), [] as [Vec<String>; 0], "otherwise ann would get it twice");
}

#[tokio::test(start_paused = true)]
async fn a_mail_server_that_never_greets_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = MailServer::parse(&format!("smtp://127.0.0.1:{port}")).unwrap();
    let smtp = FakeSmtpServer { server, delivered: Arc::default() };
    let failure = smtp.send(&["ann@example.com"]).await.unwrap_err();
    assert!(!failure.is_permanent(), "{failure}");
}
