//! `durward catalog show` and `search`: IAM actions and API operations of the catalog, for policy authors and approvers.
//!
//! Exit codes: 0 found, 1 not in the catalog (with similar names).

mod describe;
mod lookup;

use clap::Subcommand;
use durward_catalog::Catalog;
use std::io::{self, Write};

#[derive(Debug, Subcommand)]
pub enum CatalogCommand {
    /// Show an IAM action (s3:DeleteObject) or an API operation (s3 DeleteObject, S3.DeleteObject, s3 delete-object)
    Show {
        /// Name of the action or operation
        #[arg(required = true, num_args = 1..=2, value_name = "NAME")]
        name: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the actions and operations that match all words
    Search {
        /// Parts of names, access levels (tagging) or traits (irreversible), in any order and case
        #[arg(required = true, value_name = "WORD")]
        words: Vec<String>,
        /// Largest number of lines
        #[arg(long, default_value_t = 100, value_name = "LINES")]
        limit: usize,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command over the embedded catalog.
pub fn run_catalog_command(command: &CatalogCommand, out: &mut impl Write) -> io::Result<u8> {
    let catalog = Catalog::embedded();
    match command {
        CatalogCommand::Show { name, json } => print_match(catalog, &name.join(" "), *json, out),
        CatalogCommand::Search { words, limit, json } => print_search(catalog, words, *limit, *json, out),
    }
}

fn print_match(catalog: &Catalog, name: &str, json: bool, out: &mut impl Write) -> io::Result<u8> {
    let found = lookup::find_by_name(catalog, name);
    if found.is_empty() {
        let similar = lookup::suggest_names(catalog, name);
        write!(out, "`{name}` is neither an IAM action nor an API operation in this catalog")?;
        match similar.as_slice() {
            [] => writeln!(out, "; try `durward catalog search`")?,
            similar => writeln!(out, "; did you mean {}?", similar.join(" or "))?,
        }
        return Ok(1);
    }
    if json {
        let text = serde_json::to_string_pretty(&describe::match_to_json(catalog, &found))
            .map_err(io::Error::other)?;
        writeln!(out, "{text}")?;
    } else {
        describe::write_match_text(catalog, &found, out)?;
    }
    Ok(0)
}

fn print_search(
    catalog: &Catalog,
    words: &[String],
    limit: usize,
    json: bool,
    out: &mut impl Write,
) -> io::Result<u8> {
    let hits = lookup::search_catalog(catalog, words);
    let shown = hits.get(..limit.min(hits.len())).unwrap_or_default();
    if json {
        let text = serde_json::to_string_pretty(&describe::search_hits_to_json(shown, hits.len()))
            .map_err(io::Error::other)?;
        writeln!(out, "{text}")?;
    } else {
        describe::write_search_hits(shown, hits.len(), out)?;
    }
    Ok(u8::from(hits.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn show_output(name: &str) -> (u8, String) {
        let mut out = Vec::new();
        let code = print_match(Catalog::embedded(), name, false, &mut out).expect("writing to memory");
        (code, String::from_utf8_lossy(&out).into_owned())
    }

    fn show_json(name: &str) -> Value {
        let mut out = Vec::new();
        assert_eq!(
            print_match(Catalog::embedded(), name, true, &mut out).expect("writing to memory"),
            0,
            "{name}"
        );
        serde_json::from_slice(&out).expect("json")
    }

    fn search_output(words: &[&str], limit: usize) -> (u8, String) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut out = Vec::new();
        let code =
            print_search(Catalog::embedded(), &words, limit, false, &mut out).expect("writing to memory");
        (code, String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn shows_an_action_with_the_operations_that_need_it() {
        let (code, text) = show_output("s3:DeleteObject");
        assert_eq!(code, 0);
        for part in [
            "s3:DeleteObject  IAM action, Write",
            "s3 DeleteObject, s3 DeleteObjects",
            "DELETE /{Bucket}/{Key+}",
            "irreversible",
            "arn:${Partition}:s3:::${BucketName}/${ObjectName}",
            "when BypassGovernanceRetention is given",
            "VersionId",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn an_operation_is_found_by_every_spelling_of_its_name() {
        for name in
            ["s3 DeleteObject", "S3.DeleteObject", "s3 delete-object", "s3:deleteobject", "s3/DeleteObject"]
        {
            let (code, text) = show_output(name);
            assert_eq!(code, 0, "{name}: {text}");
            assert!(
                text.contains("\ns3 DeleteObject ") || text.starts_with("s3 DeleteObject "),
                "{name}: {text}"
            );
        }
        // The service by its signing name, and by its IAM prefix.
        for name in ["monitoring PutMetricAlarm", "cloudwatch PutMetricAlarm", "cloudwatch:PutMetricAlarm"] {
            assert_eq!(show_output(name).0, 0, "{name}");
        }
    }

    #[test]
    fn marks_sensitive_streaming_and_unknown_members() {
        let (_, text) = show_output("secretsmanager PutSecretValue");
        assert!(text.contains("SecretString") && text.contains("sensitive"), "{text}");
        let (_, text) = show_output("s3 PutObject");
        assert!(text.contains("Body  streaming blob"), "{text}");
        let (_, text) = show_output("codecatalyst CreateProject");
        assert!(text.contains("codecatalyst:*unknown*") && text.contains("denied by default"), "{text}");
        let (_, text) = show_output("sts AssumeRole");
        assert!(text.contains("returns credentials") && text.contains("escalates"), "{text}");
    }

    #[test]
    fn json_and_text_agree() {
        let value = show_json("lambda UpdateFunctionCode");
        let operation = &value["operations"][0];
        assert_eq!(operation["service"], "lambda");
        assert_eq!(operation["traits"]["escalates"], true);
        assert_eq!(operation["actions"][0]["action"], "lambda:UpdateFunctionCode");
        assert_eq!(operation["actions"][0]["access_level"], "Write");
        let zip =
            operation["parameters"].as_array().expect("a list").iter().find(|one| one["name"] == "ZipFile");
        assert_eq!(zip.expect("a member")["type"], "blob");
        assert_eq!(show_json("kms:ScheduleKeyDeletion")["action"]["access_level"], "Write");
    }

    #[test]
    fn an_unknown_name_exits_1_with_similar_names() {
        for (name, similar) in [
            ("s3:DeletObject", "s3:DeleteObject"),
            ("s3 DeletObject", "s3 DeleteObject"),
            ("iam create-loginprofil", "iam CreateLoginProfile"),
            ("dynamodbb DeleteTable", "dynamodb DeleteTable"),
        ] {
            let (code, text) = show_output(name);
            assert_eq!(code, 1, "{name}");
            assert!(text.contains(similar), "{name}: {text}");
        }
        let (code, text) = show_output("frobnicate");
        assert!(code == 1 && text.contains("search"), "{text}");
    }

    #[test]
    fn a_recursive_type_is_printed_to_a_depth() {
        let (code, text) = show_output("dynamodb PutItem");
        assert!(code == 0 && text.lines().count() < 200, "{text}");
        assert_eq!(show_json("dynamodb PutItem")["operations"][0]["name"], "PutItem");
    }

    #[test]
    fn a_search_needs_all_words_and_says_how_many_matches_are_not_shown() {
        let (code, text) = search_output(&["delete", "bucket", "s3"], 1000);
        assert_eq!(code, 0);
        assert!(text.contains("s3 DeleteBucket ") && text.contains("s3:DeleteBucketWebsite"), "{text}");
        assert!(!text.contains("PutObject"), "{text}");
        let (_, text) = search_output(&["kms", "irreversible"], 1000);
        assert!(text.contains("kms ScheduleKeyDeletion"), "{text}");
        let (_, text) = search_output(&["delete"], 3);
        assert!(text.contains("more"), "{text}");
        assert_eq!(search_output(&["no-such-thing-anywhere"], 10).0, 1);
    }
}
