//! Which configurations are accepted, and what the errors of the others say.

use super::*;

fn load_text(text: &str) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("durward.toml");
    std::fs::write(&path, text).unwrap();
    load_config(&path).map_err(|error| error.to_string().replace(&dir.path().display().to_string(), "DIR"))
}

const VALID_CONFIG: &str = r#"
data_dir = "data"
[policy]
dir = "policies"
[[identity.oidc]]
name = "corp"
issuer = "https://login.example.com"
audience = ["durward"]
[aws]
[[aws.connection]]
name = "prod"
role_arn = "arn:aws:iam::123456789012:role/agents"
"#;

#[test]
fn paths_are_relative_to_the_file() {
    let config = load_text(VALID_CONFIG).unwrap();
    assert!(config.policy.dir.is_absolute() && config.policy.dir.ends_with("policies"));
    assert_eq!(config.aws.connection[0].scope, ConnectionScopeConfig::Operation);
}

#[test]
fn an_authority_needs_an_emulator_over_tls() {
    let with = |more: &str| {
        load_text(&VALID_CONFIG.replace("[aws]\n", &format!("[aws]\nemulator_ca_file = \"ca.pem\"\n{more}")))
    };
    let config = with("emulator_url = \"https://aws.test\"\n").unwrap();
    assert!(config.aws.emulator_ca_file.is_some_and(|file| file.is_absolute() && file.ends_with("ca.pem")));
    for more in ["", "emulator_url = \"http://aws.test\"\n"] {
        let error = with(more).unwrap_err();
        assert!(error.contains("durward.toml:10: [aws] emulator_ca_file"), "{error}");
    }
}

#[test]
fn a_masking_pattern_has_a_name_of_its_own_and_compiles() {
    let with = |class: &str, regex: &str| {
        let pattern = format!("[[masking.pattern]]\ndata_class = \"{class}\"\nregex = '{regex}'\n");
        load_text(&VALID_CONFIG.replace("[aws]\n", &format!("{pattern}[aws]\n")))
    };
    with("employee-id", "EMP-[0-9]{6}").unwrap();
    for (class, regex, wanted) in [
        ("Employee", "EMP", "durward.toml:10: [[masking.pattern]] data_class: "),
        ("token", "EMP", "is that of a built-in data class"),
        ("employee-id", "EMP-(", "durward.toml:11: [[masking.pattern]] regex: "),
        ("employee-id", "x*", "matches the empty text"),
    ] {
        let error = with(class, regex).unwrap_err();
        assert!(error.contains(wanted), "{class} {regex}: {error}");
    }
}

#[test]
fn no_problem_repeats_a_password() {
    for (from, to) in [
        ("https://login.example.com", "ftp://u:hunter2@login.example.com"),
        ("[aws]\n", "[[mcp.server]]\nname = \"m\"\nurl = \"https://u:hunter2@mcp.example.com/\"\n[aws]\n"),
        ("[aws]\n", "[console]\npublic_url = \"https://u:hunter2@gw.example.com\"\n[aws]\n"),
        (
            "[aws]\n",
            "[[notify.email]]\nname = \"m\"\nserver = \"smtp://u:hunter2@mail\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\n[aws]\n",
        ),
        (
            "[aws]\n",
            "[[notify.webhook]]\nname = \"m\"\nurl = \"http://u:hunter2@hook\"\nsecret_file = \"s\"\n[aws]\n",
        ),
    ] {
        let error = load_text(&VALID_CONFIG.replacen(from, to, 1)).unwrap_err();
        assert!(error.contains("***@") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn errors_name_file_line_key_and_fix() {
    let error = load_text(&VALID_CONFIG.replace("issuer", "isuer")).unwrap_err();
    assert!(
        error.contains("DIR/durward.toml") && error.contains("line 7") && error.contains("isuer"),
        "{error}"
    );
    let error = load_text(&VALID_CONFIG.replace("123456789012", "1234")).unwrap_err();
    assert!(
        error.contains("durward.toml:12: [[aws.connection]] role_arn") && error.contains("12-digit account"),
        "{error}"
    );
    let error = load_text("[policy]\ndir = \"p\"\n[identity]\n[aws]\n").unwrap_err();
    assert!(error.contains("[[identity.oidc]]") && error.contains("[[aws.connection]]"), "{error}");
}

#[test]
fn the_console_needs_a_sign_in_client_and_a_confidential_address() {
    let with = |oidc: &str, more: &str| {
        load_text(&format!("{}\n{more}", VALID_CONFIG.replace("[aws]\n", &format!("{oidc}\n[aws]\n"))))
    };
    let client = "console_client_id = \"console\"\nconsole_client_secret_file = \"secret\"";
    let config =
        with(client, "[console]\npublic_url = \"https://durward.example.com\"\nallowed_groups = [\"sre\"]\n")
            .unwrap();
    let secret = config.identity.oidc[0].console_client_secret_file.as_ref().unwrap();
    assert!(secret.is_absolute() && config.console.is_some());
    for oidc in ["cli_client_id = \"cli\"", "console_audience = [\"people\"]"] {
        with(oidc, "[listen]\nconsole = \"127.0.0.1:8600\"\n").unwrap();
    }
    with("", "").unwrap();
    for (oidc, more, wanted) in [
        ("", "[console]\n", "no user could sign in"),
        ("kind = \"human\"", "[console]\n", "no user could sign in"),
        ("cli_scopes = [\"profile\"]", "", "add cli_client_id"),
        (
            "console_client_id = \"durward\"",
            "",
            ":9: [[identity.oidc]] console_client_id: `durward` is also an audience for callers, so any caller could vote",
        ),
        (
            "cli_client_id = \"durward\"",
            "",
            ":9: [[identity.oidc]] cli_client_id: `durward` is also an audience for callers, so any caller could vote",
        ),
        (
            "console_audience = [\"people\", \"durward\"]",
            "",
            ":9: [[identity.oidc]] console_audience: `durward` is also an audience for callers, so any caller could vote",
        ),
        ("console_client_secret_file = \"secret\"", "", "add console_client_id"),
        (
            client,
            "[console]\npublic_url = \"http://durward.example.com\"\n",
            ":17: [console] public_url: `http://durward",
        ),
        (client, "[console]\npublic_url = \"https://durward.example.com/x\"\n", "scheme, host and port only"),
        (client, "[listen]\nconsole = \"0.0.0.0:8600\"\n", "is not loopback"),
    ] {
        let error = with(oidc, more).unwrap_err();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
    with(client, "[console]\npublic_url = \"http://127.0.0.1:8600\"\n").unwrap();
}

#[test]
fn an_mcp_server_alone_is_enough_and_its_errors_name_line_and_fix() {
    let (before, _aws) = VALID_CONFIG.split_once("[aws]").unwrap();
    let with = |more: &str| load_text(&format!("{before}{more}"));
    let good = "[[mcp.server]]\nname = \"files\"\nurl = \"https://mcp.example.com/mcp\"\n";
    assert_eq!(with(good).unwrap().mcp.server[0].name, "files");
    for (more, wanted) in [
        (good.replace("files", "a/b"), ":10: [[mcp.server]] name: `a/b`: a server's name"),
        (good.replace("https", "ftp"), ":11: [[mcp.server]] url: `ftp://"),
        (good.replace("//", "//user:password@"), "no user name and no password"),
        (format!("{good}{good}"), ":13: [[mcp.server]] name: `files` is the name of two"),
        (format!("{good}{}", good.replace("files", "-x")), ":13: [[mcp.server]] name: `-x`"),
        (
            format!("[listen]\nmcp_allowed_origins = [\"https://app.example.com/\"]\n{good}"),
            ":10: [listen] mcp_allowed_origins",
        ),
        (format!("[listen]\nmcp_public_url = \"gw.example.com\"\n{good}"), ":10: [listen] mcp_public_url"),
        (good.replace("url", "command"), "line 11"),
    ] {
        let error = with(&more).unwrap_err();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
    let error = load_text(&format!("{VALID_CONFIG}{}", good.replace("files", "prod"))).unwrap_err();
    assert!(error.contains("`prod` is the name of two connections or servers"), "{error}");
}

#[test]
fn channel_errors_name_key_and_fix() {
    let users = VALID_CONFIG.replace("[aws]\n", "console_client_id = \"console\"\n[aws]\n");
    let console = "[console]\npublic_url = \"https://durward.example.com\"\n";
    let slack = "[[notify.slack]]\nname = \"chat\"\nurl_file = \"slack.url\"\n";
    let email = "[[notify.email]]\nname = \"mail\"\nserver = \"smtp://mail.example.com\"\nfrom = \"d@example.com\"\nto = [\"a@example.com\"]\n";
    let webhook = "[[notify.webhook]]\nname = \"robot\"\nurl = \"https://robot.example.com/x\"\nsecret_file = \"secret\"\n";
    let with = |more: &str| load_text(&format!("{users}{console}{more}"));
    let config = with(&format!("{slack}{email}{webhook}")).unwrap();
    assert!(
        config.notify.slack[0].url_file.is_absolute() && config.notify.webhook[0].secret_file.is_absolute()
    );
    assert_eq!(
        config.notify.webhook[0].events,
        ["approval_request.opened", "approval_request.closed", "approval_request.break_glass"]
    );
    for (more, wanted) in [
        (
            format!("{slack}{}", email.replace("mail\"", "chat\"")),
            ":20: [[notify.email]] name: `chat` is the name of two channels",
        ),
        (slack.replace("chat", "a b"), ":17: [[notify.slack]] name: `a b`: a channel's name"),
        (slack.replace("url_file", "url"), "line 18"),
        (
            email.replace("smtp:", "http:"),
            ":18: [[notify.email]] server: `http://mail.example.com` is not a mail server",
        ),
        (email.replace("d@example.com", "d"), ":19: [[notify.email]] from: `d` is not a mail address"),
        (email.replace("[\"a@example.com\"]", "[]"), ":20: [[notify.email]] to: `mail` has no recipients"),
        (
            format!("{email}username = \"u\"\n"),
            ":21: [[notify.email]] username: `u` has no password: add password_file",
        ),
        (
            format!("{email}password_file = \"p\"\n"),
            ":21: [[notify.email]] password_file: `mail` has a password and no user name",
        ),
        (
            webhook.replace("https", "http"),
            ":18: [[notify.webhook]] url: `http://robot.example.com/x`: the request would travel unencrypted",
        ),
        (
            format!("{webhook}events = [\"approval_request.open\"]\n"),
            ":20: [[notify.webhook]] events: `approval_request.open` is not an event",
        ),
        (format!("{webhook}events = []\n"), ":20: [[notify.webhook]] events: `robot` has no events"),
    ] {
        let error = with(&more).unwrap_err();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
    let error = load_text(&format!("{users}[console]\n{slack}")).unwrap_err();
    assert!(
        error.contains(" notify: notifications link to the console")
            && error.contains("[console] public_url"),
        "{error}"
    );
}

#[test]
fn invalid_identity_providers_are_each_reported_with_key() {
    let second = "[[identity.oidc]]\nname = \"two\"\nissuer = \"https://two.example\"\naudience = [\"durward\"]\n[aws]\n";
    for (from, to, wanted) in [
        (
            "https://login.example.com",
            "corp",
            ":7: [[identity.oidc]] issuer: `corp`: must begin with https://",
        ),
        (
            "https://login",
            "https://log in",
            ":7: [[identity.oidc]] issuer: `https://log in.example.com`: not a URL",
        ),
        (
            "https://login",
            "http://login",
            ":7: [[identity.oidc]] issuer: `http://login.example.com`: plain http is accepted only on loopback",
        ),
        ("[\"durward\"]", "[]", ":8: [[identity.oidc]] audience: must name at least one"),
        ("[\"durward\"]", "[\"\"]", ":8: [[identity.oidc]] audience: must name at least one"),
        ("\"corp\"", "\"corp/x\"", ":6: [[identity.oidc]] name: must not be empty nor hold"),
        (
            "[aws]\n",
            &format!("cli_client_id = \"\"\n{second}"),
            ":9: [[identity.oidc]] cli_client_id: is empty",
        ),
        (
            "[aws]\n",
            &second.replace("two.example", "login.example.com"),
            ":11: [[identity.oidc]] issuer: `https://login.example.com` is another provider's too",
        ),
        (
            "[aws]\n",
            &second.replace("two\"", "corp\""),
            ":10: [[identity.oidc]] name: `corp` is another provider too",
        ),
    ] {
        let error = load_text(&VALID_CONFIG.replace(from, to)).unwrap_err();
        assert!(error.contains(wanted), "{wanted}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    load_text(&VALID_CONFIG.replace("https://login.example.com", "http://127.0.0.1:8080")).unwrap();
    load_text(&VALID_CONFIG.replace("[aws]\n", second)).unwrap();
}

#[test]
fn a_listener_beyond_loopback_needs_tls() {
    let with = |listen: &str| {
        let users = VALID_CONFIG.replace("[aws]\n", "cli_client_id = \"cli\"\n[aws]\n");
        let console = "[console]\npublic_url = \"https://durward.example.com\"\n";
        load_text(&format!("[listen]\n{listen}{users}{console}").replace("data_dir = \"data\"\n", ""))
    };
    let tls = "tls = { certificate_file = \"c\", key_file = \"k\" }\n";
    for listener in ["aws", "mcp", "console"] {
        let exposed = format!("{listener} = \"192.0.2.1:8000\"\n");
        let error = with(&exposed).unwrap_err();
        assert!(
            error.contains(&format!(":2: [listen] {listener}: `192.0.2.1:8000` is not loopback")),
            "{error}"
        );
        for more in [tls, "proxy_terminates_tls = true\n"] {
            with(&format!("{exposed}{more}")).unwrap();
        }
        with(&format!("{listener} = \"127.0.0.1:8000\"\n")).unwrap();
    }
}

#[test]
fn two_listeners_cannot_share_an_address() {
    let with = |listen: &str, more: &str| {
        let users = VALID_CONFIG.replace("[aws]\n", "cli_client_id = \"cli\"\n[aws]\n");
        load_text(&format!("[listen]\n{listen}{users}{more}").replace("data_dir = \"data\"\n", ""))
    };
    let console = "[console]\npublic_url = \"https://durward.example.com\"\n";
    for (listen, more, wanted) in [
        (
            "aws = \"127.0.0.1:1\"\nmcp = \"127.0.0.1:1\"\n",
            "",
            Some(":3: [listen] mcp: `127.0.0.1:1` is already used by [listen] aws"),
        ),
        (
            "aws = \"127.0.0.1:1\"\nmcp = \"0.0.0.0:1\"\n",
            "",
            Some(":3: [listen] mcp: `0.0.0.0:1` is already used"),
        ),
        (
            "aws = \"[::]:1\"\nmcp = \"127.0.0.1:1\"\n",
            "",
            Some(":3: [listen] mcp: `127.0.0.1:1` is already used"),
        ),
        (
            "aws = \"127.0.0.1:8600\"\n",
            console,
            Some(":1: [listen] console: `127.0.0.1:8600` is already used"),
        ),
        ("mcp = \"127.0.0.1:8610\"\n", "", Some(":2: [listen] mcp: `127.0.0.1:8610` is already used")),
        ("aws = \"127.0.0.1:0\"\nmcp = \"127.0.0.1:0\"\n", "", None),
        ("aws = \"127.0.0.1:1\"\nmcp = \"127.0.0.2:1\"\n", "", None),
        ("proxy_terminates_tls = true\naws = \"0.0.0.0:1\"\nmcp = \"[::1]:1\"\n", "", None),
        ("aws = \"127.0.0.1:8620\"\n", console, None),
    ] {
        let error = with(listen, more).err();
        match wanted {
            Some(wanted) => {
                assert!(error.as_ref().is_some_and(|error| error.contains(wanted)), "{listen} {error:?}");
            }
            None => assert_eq!(error, None, "{listen}"),
        }
    }
}

/// The first fenced block of a language in a page.
fn fenced_block<'p>(page: &'p str, language: &str) -> &'p str {
    let (_before, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn the_documented_configurations_and_policies_load() {
    let mcp = include_str!("../../../../docs/mcp.md");
    let config = load_text(fenced_block(mcp, "toml")).unwrap();
    assert_eq!((config.mcp.server.len(), config.aws.connection.len()), (1, 0));
    let config = load_text(fenced_block(include_str!("../../../../docs/configuration.md"), "toml")).unwrap();
    assert_eq!((config.mcp.server.len(), config.aws.connection.len()), (1, 1));
    let config = load_text(fenced_block(include_str!("../../../../docs/notifications.md"), "toml")).unwrap();
    let notify = &config.notify;
    assert_eq!((notify.slack.len(), notify.email.len(), notify.webhook.len()), (1, 1, 1));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("page.cedar"), fenced_block(mcp, "cedar")).unwrap();
    let policies =
        durward_policy::PolicyStore::open(dir.path(), durward_catalog::Catalog::embedded()).unwrap();
    assert_eq!(policies.current().len(), 5);
}

#[test]
fn every_example_configuration_loads() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut loaded = Vec::new();
    for entry in std::fs::read_dir(&examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            load_config(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("#:schema ../docs/configuration.schema.json\n"), "{}", path.display());
            loaded.push(path.file_stem().unwrap().to_string_lossy().into_owned());
        }
    }
    loaded.sort();
    assert_eq!(loaded, ["eks-irsa", "laptop", "mcp-only"]);
}

#[test]
fn a_configuration_is_also_read_from_its_text() {
    let config = parse_config(VALID_CONFIG, Path::new("/etc/durward")).unwrap();
    assert_eq!(config.data_dir, Path::new("/etc/durward/data"));
    let error = parse_config(&VALID_CONFIG.replace("123456789012", "1234"), Path::new("/")).unwrap_err();
    assert!(error.to_string().starts_with("[[aws.connection]] role_arn: "), "{error}");
    let error = parse_config("x = 1", Path::new("/")).unwrap_err();
    assert!(matches!(error, ConfigError::Syntax(_)), "{error}");
}
