//! Names of members, placeholders and resource types as words, so that `DBClusterIdentifier` and `${DbClusterId}` match.

/// The words of a name in lower case and the singular, with the long and short forms of a word made one.
pub fn split_words(name: &str) -> Vec<String> {
    let letters: Vec<char> = name.chars().collect();
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| letters.get(at));
        let after = letters.get(at + 1);
        let begins = letter.is_uppercase()
            && (before.is_some_and(|one| one.is_lowercase() || one.is_ascii_digit())
                || (before.is_some_and(|one| one.is_uppercase())
                    && after.is_some_and(|one| one.is_lowercase())));
        if begins || !letter.is_alphanumeric() {
            words.push(std::mem::take(&mut word));
        }
        if letter.is_alphanumeric() {
            word.extend(letter.to_lowercase());
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    for word in &mut words {
        *word = normalize_word(word);
    }
    words
}

fn normalize_word(word: &str) -> String {
    let single = match word.strip_suffix("ies") {
        Some(start) => format!("{start}y"),
        None if word.len() > 3 && !word.ends_with("ss") && !word.ends_with("us") && !word.ends_with("is") => {
            word.strip_suffix('s').unwrap_or(word).to_owned()
        }
        None => word.to_owned(),
    };
    match single.as_str() {
        "application" => "app",
        "configuration" => "config",
        "database" => "db",
        "environment" => "env",
        "repository" => "repo",
        "ids" => "id",
        other => other,
    }
    .to_owned()
}

/// The words without those at the end that only say how a thing is named.
pub fn subject_words(name: &str) -> Vec<String> {
    const NAMING_WORDS: [&str; 8] = ["name", "id", "arn", "identifier", "uuid", "path", "list", "with"];
    let mut words = split_words(name);
    while words.last().is_some_and(|word| NAMING_WORDS.contains(&word.as_str())) {
        words.pop();
    }
    words
}

/// Whether one of two names ends with the other.
pub fn words_overlap(left: &[String], right: &[String]) -> bool {
    !left.is_empty() && !right.is_empty() && (left.ends_with(right) || right.ends_with(left))
}

/// Whether `part` stands in `whole`.
pub fn contains_words(whole: &[String], part: &[String]) -> bool {
    !part.is_empty() && whole.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join_words(words: &[String]) -> String {
        words.join(" ")
    }

    #[test]
    fn takes_names_apart() {
        for (name, words) in [
            ("DBClusterIdentifier", "db cluster identifier"),
            ("DbClusterInstanceName", "db cluster instance name"),
            ("logGroupNames", "log group name"),
            ("listener-rule/app", "listener rule app"),
            ("ApplicationId", "app id"),
            ("Policies", "policy"),
            ("address", "address"),
            ("WebACLArn", "web acl arn"),
        ] {
            assert_eq!(join_words(&split_words(name)), words);
        }
        assert_eq!(join_words(&subject_words("DBClusterIdentifiers")), "db cluster");
        assert!(subject_words("Id").is_empty());
    }

    #[test]
    fn compares_by_whole_words() {
        assert!(words_overlap(&subject_words("PoolName"), &subject_words("DedicatedIPPool")));
        assert!(!words_overlap(&subject_words("Carpool"), &subject_words("Pool")));
        assert!(!words_overlap(&[], &subject_words("Pool")));
        assert!(contains_words(&split_words("RemoveStreamGroupLocations"), &subject_words("stream group")));
    }
}
