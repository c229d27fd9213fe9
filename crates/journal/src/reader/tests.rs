//! Every change of the files is found, and no content of the files makes the reader panic.

use super::*;
use crate::{
    Journal, JournalOptions,
    segment_format::{leaf_hash, seal_frame, segment_file_name},
    testing::{self, outcome_marks, sample_outcome, test_options},
};
use proptest::prelude::*;
use std::{collections::BTreeMap, fs};
use tempfile::TempDir;

/// The files of a journal by name.
type JournalFiles = BTreeMap<String, Vec<u8>>;

/// A journal of `count` records in segments of a few records each, whose marks begin at `from`.
fn build_journal(from: u64, count: u64) -> JournalFiles {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let journal =
            Journal::open(dir.path(), JournalOptions { max_segment_bytes: 1200, ..test_options() }).unwrap();
        for mark in from..from + count {
            journal.append_durable(sample_outcome(mark)).await.unwrap();
        }
    });
    let mut files = JournalFiles::new();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".journal") {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    files
}

fn write_to_temp_dir(files: &JournalFiles) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

/// The result of `verify_journal`, after checking that `read_journal` finds the same.
fn verify_files(files: &JournalFiles) -> Result<VerifiedJournal, JournalCorruption> {
    let dir = write_to_temp_dir(files);
    let verified = verify_journal(dir.path());
    let entries: Vec<_> = read_journal(dir.path()).collect();
    let good = entries.iter().filter(|entry| entry.is_ok()).count() as u64;
    match (&verified, entries.last()) {
        (Ok(verified), last) => {
            assert_eq!(verified.record_count, good);
            assert!(last.is_none_or(Result::is_ok));
        }
        (Err(corruption), Some(Err(other))) => {
            assert_eq!(
                (corruption.record_number, corruption.offset, good + 1),
                (other.record_number, other.offset, corruption.record_number)
            );
        }
        (Err(corruption), _) => panic!("read_journal did not find: {corruption}"),
    }
    verified
}

/// The byte ranges of the frames of a segment.
fn frame_ranges(segment: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut out = Vec::new();
    let mut at = SEGMENT_HEADER_BYTES;
    while let Some(length) = segment.get(at..at + 4) {
        let end = at + FRAME_HEAD_BYTES + u32::from_le_bytes(length.try_into().unwrap()) as usize;
        out.push(at..end);
        at = end;
    }
    out
}

#[test]
fn an_untouched_journal_is_verified() {
    let files = build_journal(0, 10);
    let verified = verify_files(&files).unwrap();
    assert_eq!((u64::from(verified.segment_count), verified.record_count), (files.len() as u64, 10));
    assert!(verified.first_record_time.unwrap() < verified.last_record_time.unwrap());
    assert_eq!(verified.head_link.len(), 64);
}

#[test]
fn one_flipped_byte_anywhere_is_found_and_named() {
    let files = build_journal(0, 9);
    assert!(files.len() >= 3);
    let mut record_before = 0;
    for (name, bytes) in &files {
        let ranges = frame_ranges(bytes);
        for at in 0..bytes.len() {
            let mut changed = files.clone();
            // Each byte is changed in another way. Over the whole journal all 255 changes occur.
            changed.get_mut(name).unwrap()[at] ^= (at % 255 + 1) as u8;
            let corruption = verify_files(&changed).unwrap_err();
            assert!(corruption.file.ends_with(name), "byte {at} of {name}: {corruption}");
            let hit = ranges.iter().position(|range| range.contains(&at));
            let (offset, record) = match hit {
                None => (0, record_before + 1),
                Some(index) => (ranges[index].start as u64, record_before + index as u64 + 1),
            };
            assert_eq!(
                (corruption.offset, corruption.record_number),
                (offset, record),
                "byte {at} of {name}: {corruption}"
            );
            if let (Some(index), true) = (hit, at % 100 == 0)
                && at > ranges[index].start + FRAME_HEAD_BYTES + 40
            {
                assert!(corruption.record_time.is_some(), "the time stands before byte {at}");
            }
        }
        record_before += ranges.len() as u64;
    }
}

#[test]
fn a_removed_segment_is_found() {
    let files = build_journal(0, 10);
    let count = files.len() as u32;
    for number in 1..count {
        let mut changed = files.clone();
        changed.remove(&segment_file_name(number));
        let corruption = verify_files(&changed).unwrap_err();
        assert!(matches!(corruption.kind, CorruptionKind::MissingSegment), "{corruption}");
        assert!(corruption.file.ends_with(segment_file_name(number)));
    }
}

#[test]
fn renumbered_segments_are_found() {
    let files = build_journal(0, 10);
    let mut changed = files.clone();
    changed.insert(segment_file_name(2), files[&segment_file_name(3)].clone());
    changed.insert(segment_file_name(3), files[&segment_file_name(2)].clone());
    let corruption = verify_files(&changed).unwrap_err();
    assert!(matches!(corruption.kind, CorruptionKind::RenumberedSegment(3)), "{corruption}");
}

#[test]
fn a_segment_of_another_journal_is_found() {
    let (files, other) = (build_journal(0, 10), build_journal(0, 10));
    for number in 1..=files.len() as u32 {
        let mut changed = files.clone();
        changed.insert(segment_file_name(number), other[&segment_file_name(number)].clone());
        let result = verify_files(&changed);
        match number {
            // The first segment of the other journal is a valid beginning. Segment 2 does not follow it.
            1 => {
                let corruption = result.unwrap_err();
                assert!(matches!(corruption.kind, CorruptionKind::Spliced), "{corruption}");
                assert!(corruption.file.ends_with(segment_file_name(2)));
            }
            _ => assert!(matches!(result.unwrap_err().kind, CorruptionKind::Spliced)),
        }
    }
}

#[test]
fn removed_reordered_repeated_and_foreign_records_are_found() {
    let (files, other) = (build_journal(0, 10), build_journal(50, 10));
    for (name, bytes) in &files {
        let last_segment = *name == segment_file_name(files.len() as u32);
        let ranges = frame_ranges(bytes);
        for (index, range) in ranges.iter().enumerate() {
            let last = last_segment && index + 1 == ranges.len();
            let mut variants = Vec::new();
            if !last {
                let mut removed = bytes.clone();
                removed.drain(range.clone());
                variants.push(removed);
            }
            if let Some(next) = ranges.get(index + 1) {
                let mut swapped = bytes[..range.start].to_vec();
                swapped.extend_from_slice(&bytes[next.clone()]);
                swapped.extend_from_slice(&bytes[range.clone()]);
                swapped.extend_from_slice(&bytes[next.end..]);
                variants.push(swapped);
            }
            let mut repeated = bytes[..range.end].to_vec();
            repeated.extend_from_slice(&bytes[range.start..]);
            variants.push(repeated);
            let foreign = &other[name];
            let mut spliced = bytes[..range.start].to_vec();
            spliced.extend_from_slice(&foreign[frame_ranges(foreign)[0].clone()]);
            spliced.extend_from_slice(&bytes[range.end..]);
            variants.push(spliced);
            for variant in variants {
                let mut changed = files.clone();
                changed.insert(name.clone(), variant);
                verify_files(&changed).unwrap_err();
            }
        }
    }
}

#[test]
fn a_changed_record_with_a_fresh_checksum_and_link_is_found() {
    let files = build_journal(0, 4);
    let bytes = &files[&segment_file_name(1)];
    let range = frame_ranges(bytes)[0].clone();
    let mut changed = bytes.clone();
    let frame = &mut changed[range];
    let end = frame.len();
    frame[end - 2] ^= 1;
    let next = HashChain::START.with_leaf(&leaf_hash(&frame[FRAME_HEAD_BYTES..]));
    seal_frame(frame, &next.link);
    let mut files = files;
    files.insert(segment_file_name(1), changed);
    let corruption = verify_files(&files).unwrap_err();
    assert_eq!(corruption.record_number, 2, "the record after it no longer follows it");
    assert!(matches!(corruption.kind, CorruptionKind::BrokenLink));
}

#[test]
fn a_segment_that_ends_early_is_found_when_another_follows() {
    let files = build_journal(0, 10);
    let bytes = &files[&segment_file_name(1)];
    for cut in 0..bytes.len() {
        let mut changed = files.clone();
        changed.get_mut(&segment_file_name(1)).unwrap().truncate(cut);
        let corruption = verify_files(&changed).unwrap_err();
        assert!(
            matches!(corruption.kind, CorruptionKind::Truncated | CorruptionKind::Spliced),
            "cut at {cut}: {corruption}"
        );
    }
}

#[test]
fn an_unknown_version_is_named() {
    let mut files = build_journal(0, 1);
    let bytes = files.get_mut(&segment_file_name(1)).unwrap();
    bytes[8] = 9;
    let check = crc32fast::hash(&bytes[..56]);
    bytes[56..60].copy_from_slice(&check.to_le_bytes());
    assert!(matches!(verify_files(&files).unwrap_err().kind, CorruptionKind::UnknownVersion(9)));
}

#[test]
fn other_files_are_ignored() {
    let mut files = build_journal(0, 3);
    files.insert("notes.txt".to_owned(), b"hello".to_vec());
    files.insert("1.journal".to_owned(), b"hello".to_vec());
    assert_eq!(verify_files(&files).unwrap().record_count, 3);
}

#[test]
fn a_missing_directory_is_an_error_and_an_empty_one_an_empty_journal() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        verify_journal(&dir.path().join("none")).unwrap_err().kind,
        CorruptionKind::Unreadable(_)
    ));
    assert_eq!(verify_journal(dir.path()).unwrap().record_count, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_while_the_gateway_appends() {
    let dir = tempfile::tempdir().unwrap();
    let journal =
        Journal::open(dir.path(), JournalOptions { max_segment_bytes: 20_000, ..test_options() }).unwrap();
    let path = dir.path().to_owned();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let reading = std::thread::spawn(move || {
        let mut rounds = 0;
        while rounds < 5 || stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            let seen = outcome_marks(&path);
            assert_eq!(seen, (0..seen.len() as u64).collect::<Vec<_>>());
            verify_journal(&path).unwrap();
            rounds += 1;
        }
    });
    for mark in 0..2000 {
        journal.append(sample_outcome(mark)).await.unwrap();
        if mark % 10 == 0 {
            journal.flush().await.unwrap();
        }
    }
    drop(stop);
    reading.join().unwrap();
    journal.close().unwrap();
    assert_eq!(outcome_marks(dir.path()).len(), 2000);
}

/// A frame with valid checksums.
fn sealed_frame(record: &[u8], link: Sha256Hash) -> Vec<u8> {
    let mut frame = vec![0; FRAME_HEAD_BYTES];
    frame.extend_from_slice(record);
    seal_frame(&mut frame, &link);
    frame
}

/// The time may be absent. If it is present, it has the form in which records are written.
fn assert_timestamp_form(time: Option<&str>) {
    const TIMESTAMP_FORM: &[u8] = b"dddd-dd-ddTdd:dd:dd.ddddddZ";
    let digits = |byte: u8| if byte.is_ascii_digit() { b'd' } else { byte };
    assert!(time.is_none_or(|time| time.bytes().map(digits).eq(TIMESTAMP_FORM.iter().copied())), "{time:?}");
}

fn read_everything(files: &JournalFiles) {
    let dir = write_to_temp_dir(files);
    for entry in read_journal(dir.path()) {
        match entry {
            Ok(entry) => {
                drop(entry.decode_record());
                assert_timestamp_form(entry.record_time());
            }
            Err(corruption) => drop(corruption.to_string()),
        }
    }
    let verified = verify_journal(dir.path());
    if let Ok(journal) = Journal::open(dir.path(), testing::test_options()) {
        journal.close().unwrap();
        if verified.is_ok() {
            assert_eq!(verify_journal(dir.path()).unwrap().tail, None);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_bytes_never_panic(
        one in proptest::collection::vec(any::<u8>(), 0..300),
        two in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
        headed in any::<bool>(),
        framed in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..100)),
    ) {
        let mut first = Vec::new();
        if headed {
            first.extend_from_slice(&segment_format::encode_header(1, &HashChain::START));
        }
        if let Some(record) = framed {
            let chain = HashChain::START.with_leaf(&leaf_hash(&record));
            first.extend_from_slice(&sealed_frame(&record, chain.link));
        }
        first.extend_from_slice(&one);
        let mut files = JournalFiles::from([(segment_file_name(1), first)]);
        if let Some(two) = two {
            files.insert(segment_file_name(2), two);
        }
        read_everything(&files);
    }

    #[test]
    fn a_changed_journal_shows_only_records_that_were_written(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        use std::sync::LazyLock;
        static INTACT_JOURNAL: LazyLock<JournalFiles> = LazyLock::new(|| build_journal(0, 6));
        let whole = write_to_temp_dir(&INTACT_JOURNAL);
        let texts: Vec<_> = read_journal(whole.path()).map(|entry| entry.unwrap().json_text).collect();
        let mut changed = INTACT_JOURNAL.clone();
        for (index, byte) in changes {
            let mut at = index.index(changed.values().map(Vec::len).sum());
            for bytes in changed.values_mut() {
                if at < bytes.len() {
                    bytes[at] = byte;
                    break;
                }
                at -= bytes.len();
            }
        }
        if let (Some(cut), Some(mut last)) = (cut, changed.last_entry()) {
            let at = cut.index(last.get().len());
            last.get_mut().truncate(at);
        }
        read_everything(&changed);
        let dir = write_to_temp_dir(&changed);
        // The records that were read are a prefix of those that were written.
        let read: Vec<_> = read_journal(dir.path()).map_while(Result::ok).map(|entry| entry.json_text).collect();
        prop_assert!(texts.starts_with(&read));
        if verify_journal(dir.path()).is_ok_and(|verified| verified.tail.is_none() && verified.record_count == 6) {
            prop_assert_eq!(&changed, &*INTACT_JOURNAL);
        }
    }
}
