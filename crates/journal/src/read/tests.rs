//! Whatever is done to the files, reading finds it and never panics.

use super::*;
use crate::{
    Journal, Options,
    format::{file_name, leaf_hash, seal},
    testing::{self, marks, options, outcome},
};
use proptest::prelude::*;
use std::{collections::BTreeMap, fs};
use tempfile::TempDir;

/// A journal's files by name.
type Files = BTreeMap<String, Vec<u8>>;

/// A journal of `count` records in segments of a few records each, whose marks begin at `from`.
fn journal(from: u64, count: u64) -> Files {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let journal = Journal::open(dir.path(), Options { segment_bytes: 1200, ..options() }).unwrap();
        for mark in from..from + count {
            journal.record_durable(outcome(mark)).await.unwrap();
        }
    });
    let mut files = Files::new();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".journal") {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    files
}

fn place(files: &Files) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

/// What `verify` says, after checking that `read` says the same.
fn verdict(files: &Files) -> Result<Verified, Broken> {
    let dir = place(files);
    let verified = verify(dir.path());
    let entries: Vec<_> = read(dir.path()).collect();
    let good = entries.iter().filter(|entry| entry.is_ok()).count() as u64;
    match (&verified, entries.last()) {
        (Ok(verified), last) => {
            assert_eq!(verified.records, good);
            assert!(last.is_none_or(Result::is_ok));
        }
        (Err(broken), Some(Err(other))) => {
            assert_eq!((broken.record, broken.offset, good + 1), (other.record, other.offset, broken.record));
        }
        (Err(broken), _) => panic!("read did not find: {broken}"),
    }
    verified
}

/// Where the frames of a segment are.
fn frames(segment: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut out = Vec::new();
    let mut at = HEADER;
    while let Some(length) = segment.get(at..at + 4) {
        let end = at + HEAD + u32::from_le_bytes(length.try_into().unwrap()) as usize;
        out.push(at..end);
        at = end;
    }
    out
}

#[test]
fn an_untouched_journal_is_verified() {
    let files = journal(0, 10);
    let verified = verdict(&files).unwrap();
    assert_eq!((u64::from(verified.segments), verified.records), (files.len() as u64, 10));
    assert!(verified.first.unwrap() < verified.last.unwrap());
    assert_eq!(verified.link.len(), 64);
}

#[test]
fn one_flipped_byte_anywhere_is_found_and_named() {
    let files = journal(0, 9);
    assert!(files.len() >= 3);
    let mut record_before = 0;
    for (name, bytes) in &files {
        let ranges = frames(bytes);
        for at in 0..bytes.len() {
            let mut bent = files.clone();
            // Each place gets another change; over the journal all 255 occur.
            bent.get_mut(name).unwrap()[at] ^= (at % 255 + 1) as u8;
            let broken = verdict(&bent).unwrap_err();
            assert!(broken.file.ends_with(name), "byte {at} of {name}: {broken}");
            let hit = ranges.iter().position(|range| range.contains(&at));
            let (offset, record) = match hit {
                None => (0, record_before + 1),
                Some(index) => (ranges[index].start as u64, record_before + index as u64 + 1),
            };
            assert_eq!((broken.offset, broken.record), (offset, record), "byte {at} of {name}: {broken}");
            if let (Some(index), true) = (hit, at % 100 == 0)
                && at > ranges[index].start + HEAD + 40
            {
                assert!(broken.time.is_some(), "the time stands before byte {at}");
            }
        }
        record_before += ranges.len() as u64;
    }
}

#[test]
fn a_removed_segment_is_found() {
    let files = journal(0, 10);
    let count = files.len() as u32;
    for number in 1..count {
        let mut bent = files.clone();
        bent.remove(&file_name(number));
        let broken = verdict(&bent).unwrap_err();
        assert!(matches!(broken.what, Damage::Missing), "{broken}");
        assert!(broken.file.ends_with(file_name(number)));
    }
}

#[test]
fn renumbered_segments_are_found() {
    let files = journal(0, 10);
    let mut bent = files.clone();
    bent.insert(file_name(2), files[&file_name(3)].clone());
    bent.insert(file_name(3), files[&file_name(2)].clone());
    let broken = verdict(&bent).unwrap_err();
    assert!(matches!(broken.what, Damage::Renumbered(3)), "{broken}");
}

#[test]
fn a_segment_of_another_journal_is_found() {
    let (files, other) = (journal(0, 10), journal(0, 10));
    for number in 1..=files.len() as u32 {
        let mut bent = files.clone();
        bent.insert(file_name(number), other[&file_name(number)].clone());
        let result = verdict(&bent);
        match number {
            // The other journal's first segment is a whole beginning; the next one does not follow it.
            1 => assert!(result.unwrap_err().file.ends_with(file_name(2))),
            _ => assert!(matches!(result.unwrap_err().what, Damage::Spliced)),
        }
    }
}

#[test]
fn removed_reordered_repeated_and_foreign_records_are_found() {
    let (files, other) = (journal(0, 10), journal(50, 10));
    for (name, bytes) in &files {
        let last_segment = *name == file_name(files.len() as u32);
        let ranges = frames(bytes);
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
            spliced.extend_from_slice(&foreign[frames(foreign)[0].clone()]);
            spliced.extend_from_slice(&bytes[range.end..]);
            variants.push(spliced);
            for variant in variants {
                let mut bent = files.clone();
                bent.insert(name.clone(), variant);
                verdict(&bent).unwrap_err();
            }
        }
    }
}

#[test]
fn a_changed_record_with_a_fresh_checksum_and_link_is_found() {
    let files = journal(0, 4);
    let bytes = &files[&file_name(1)];
    let range = frames(bytes)[0].clone();
    let mut bent = bytes.clone();
    let frame = &mut bent[range];
    let end = frame.len();
    frame[end - 2] ^= 1;
    let next = Chain::START.then(&leaf_hash(&frame[HEAD..]));
    seal(frame, &next.link);
    let mut files = files;
    files.insert(file_name(1), bent);
    let broken = verdict(&files).unwrap_err();
    assert_eq!(broken.record, 2, "the record after it no longer follows");
    assert!(matches!(broken.what, Damage::Link));
}

#[test]
fn a_segment_that_ends_early_is_found_when_another_follows() {
    let files = journal(0, 10);
    let bytes = &files[&file_name(1)];
    for cut in 0..bytes.len() {
        let mut bent = files.clone();
        bent.get_mut(&file_name(1)).unwrap().truncate(cut);
        let broken = verdict(&bent).unwrap_err();
        assert!(matches!(broken.what, Damage::Short | Damage::Spliced), "cut at {cut}: {broken}");
    }
}

#[test]
fn an_unknown_version_is_named() {
    let mut files = journal(0, 1);
    let bytes = files.get_mut(&file_name(1)).unwrap();
    bytes[8] = 9;
    let check = crc32fast::hash(&bytes[..56]);
    bytes[56..60].copy_from_slice(&check.to_le_bytes());
    assert!(matches!(verdict(&files).unwrap_err().what, Damage::Version(9)));
}

#[test]
fn other_files_are_left_alone() {
    let mut files = journal(0, 3);
    files.insert("notes.txt".to_owned(), b"hello".to_vec());
    files.insert("1.journal".to_owned(), b"hello".to_vec());
    assert_eq!(verdict(&files).unwrap().records, 3);
}

#[test]
fn a_missing_directory_is_an_error_and_an_empty_one_an_empty_journal() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(verify(&dir.path().join("none")).unwrap_err().what, Damage::Unreadable(_)));
    assert_eq!(verify(dir.path()).unwrap().records, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_while_the_gateway_appends() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), Options { segment_bytes: 20_000, ..options() }).unwrap();
    let path = dir.path().to_owned();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let reading = std::thread::spawn(move || {
        let mut rounds = 0;
        while rounds < 5 || stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            let seen = marks(&path);
            assert_eq!(seen, (0..seen.len() as u64).collect::<Vec<_>>());
            verify(&path).unwrap();
            rounds += 1;
        }
    });
    for mark in 0..2000 {
        journal.record(outcome(mark)).await.unwrap();
        if mark % 10 == 0 {
            journal.flush().await.unwrap();
        }
    }
    drop(stop);
    reading.join().unwrap();
    journal.close().unwrap();
    assert_eq!(marks(dir.path()).len(), 2000);
}

/// A frame that is all right as far as its checksums go.
fn sealed(record: &[u8], link: Hash) -> Vec<u8> {
    let mut frame = vec![0; HEAD];
    frame.extend_from_slice(record);
    seal(&mut frame, &link);
    frame
}

/// Time is optional, but where it is it is a stamp.
fn is_a_stamp(time: Option<&str>) {
    assert!(time.is_none_or(|time| time.len() == 27));
}

fn read_everything(files: &Files) {
    let dir = place(files);
    for entry in read(dir.path()) {
        match entry {
            Ok(entry) => {
                drop(entry.record());
                is_a_stamp(entry.time());
            }
            Err(broken) => drop(broken.to_string()),
        }
    }
    let verified = verify(dir.path());
    if let Ok(journal) = Journal::open(dir.path(), testing::options()) {
        journal.close().unwrap();
        if verified.is_ok() {
            assert_eq!(verify(dir.path()).unwrap().tail, None);
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
            first.extend_from_slice(&format::header(1, &Chain::START));
        }
        if let Some(record) = framed {
            let chain = Chain::START.then(&leaf_hash(&record));
            first.extend_from_slice(&sealed(&record, chain.link));
        }
        first.extend_from_slice(&one);
        let mut files = Files::from([(file_name(1), first)]);
        if let Some(two) = two {
            files.insert(file_name(2), two);
        }
        read_everything(&files);
    }

    #[test]
    fn a_journal_with_changes_is_never_taken_for_another(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        use std::sync::LazyLock;
        static WHOLE: LazyLock<Files> = LazyLock::new(|| journal(0, 6));
        let whole = place(&WHOLE);
        let texts: Vec<_> = read(whole.path()).map(|entry| entry.unwrap().text).collect();
        let mut bent = WHOLE.clone();
        for (index, byte) in changes {
            let mut at = index.index(bent.values().map(Vec::len).sum());
            for bytes in bent.values_mut() {
                if at < bytes.len() {
                    bytes[at] = byte;
                    break;
                }
                at -= bytes.len();
            }
        }
        if let (Some(cut), Some(mut last)) = (cut, bent.last_entry()) {
            let at = cut.index(last.get().len());
            last.get_mut().truncate(at);
        }
        read_everything(&bent);
        let dir = place(&bent);
        // Whatever was shown is a true beginning of what was written.
        let shown: Vec<_> = read(dir.path()).map_while(Result::ok).map(|entry| entry.text).collect();
        prop_assert!(texts.starts_with(&shown));
        if verify(dir.path()).is_ok_and(|verified| verified.tail.is_none() && verified.records == 6) {
            prop_assert_eq!(&bent, &*WHOLE);
        }
    }
}
