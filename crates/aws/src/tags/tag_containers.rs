//! The members of responses that hold tags, by the names that the services give them.

/// Output members that hold tags, directly or inside, in lower case.
pub(super) const TAG_CONTAINERS: [&str; 7] =
    ["tags", "taglist", "tagset", "resourcetags", "tagdescriptions", "taginfoforresource", "stacks"];

/// Returns true if an output member holds tags. `TagsModel` is the whole body of some responses.
pub(super) fn holds_tags(member: &str) -> bool {
    let member = member.to_ascii_lowercase();
    TAG_CONTAINERS.contains(&member.as_str()) || member == "tagsmodel"
}
