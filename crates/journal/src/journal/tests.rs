//! Appending, recovery and failures.

use super::*;
use crate::{
    error::CorruptionKind,
    reader::read_journal,
    segment_format::SEGMENT_HEADER_BYTES,
    testing,
    testing::{TestDisk, outcome_marks, sample_outcome, test_options},
    verify_journal,
};
use std::{
    io::ErrorKind,
    os::unix::fs::PermissionsExt as _,
    sync::atomic::{AtomicU64, Ordering},
};

fn file_size(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[tokio::test]
async fn continues_the_chain_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut heads = Vec::new();
    // One of each type, and one more.
    let records = testing::sample_records().len() as u64 + 1;
    for round in 0..3 {
        let journal = Journal::open(dir.path(), test_options()).unwrap();
        assert_eq!(journal.recovered_tail(), None);
        for record in testing::sample_records() {
            journal.append(record).await.unwrap();
        }
        let position = journal.append_durable(sample_outcome(round)).await.unwrap();
        assert_eq!(position.record_number, records * (round + 1));
        journal.close().unwrap();
        let verified = verify_journal(dir.path()).unwrap();
        assert_eq!((verified.segment_count, verified.record_count), (1, records * (round + 1)));
        heads.push(verified.head_link);
    }
    heads.dedup();
    assert_eq!(heads.len(), 3);
}

#[tokio::test]
async fn a_durable_append_returns_the_position_of_its_record() {
    let dir = tempfile::tempdir().unwrap();
    let journal =
        Journal::open(dir.path(), JournalOptions { max_segment_bytes: 1000, ..test_options() }).unwrap();
    for round in 0..10 {
        journal.append(sample_outcome(round)).await.unwrap();
        let position = journal.append_durable(sample_outcome(100 + round)).await.unwrap();
        let entry =
            read_journal(dir.path()).map(Result::unwrap).find(|entry| entry.position == position).unwrap();
        assert_eq!(testing::outcome_mark(&entry.decode_record().unwrap()), 100 + round);
    }
}

#[tokio::test]
async fn tasks_that_wait_together_share_one_sync() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = Arc::new(disk.open_journal(dir.path(), test_options()));
    let before = disk.sync_and_append_counts();
    disk.plan().hold_syncs = true;
    let begun = Arc::new(AtomicU64::new(0));
    let append = |mark| {
        let (journal, begun) = (Arc::clone(&journal), Arc::clone(&begun));
        tokio::spawn(async move {
            begun.fetch_add(1, Ordering::Relaxed);
            journal.append_durable(sample_outcome(mark)).await
        })
    };
    let first = append(0);
    // The first yield lets it append, the second lets it wake the writer.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    disk.wait_for_held_sync().await;
    let others: Vec<_> = (1..=200).map(append).collect();
    // On this single thread a task that has begun runs until it waits for its result.
    while begun.load(Ordering::Relaxed) < 201 {
        tokio::task::yield_now().await;
    }
    disk.release_syncs();
    first.await.unwrap().unwrap();
    for other in others {
        other.await.unwrap().unwrap();
    }
    let after = disk.sync_and_append_counts();
    assert_eq!((after.0 - before.0, after.1 - before.1), (2, 2));
    assert_eq!(outcome_marks(dir.path()), (0..=200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_record_without_a_waiter_is_synced_with_the_next_durable_record() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = disk.open_journal(dir.path(), test_options());
    let before = disk.plan().sync_count;
    for mark in 0..100 {
        journal.append(sample_outcome(mark)).await.unwrap();
    }
    assert_eq!(disk.plan().sync_count, before);
    journal.append_durable(sample_outcome(100)).await.unwrap();
    assert_eq!(disk.plan().sync_count, before + 1);
    journal.append(sample_outcome(101)).await.unwrap();
    journal.flush().await.unwrap();
    assert_eq!(disk.plan().sync_count, before + 2);
    assert_eq!(outcome_marks(dir.path()), (0..=101).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_record_without_a_waiter_is_synced_after_the_delay() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = disk
        .open_journal(dir.path(), JournalOptions { sync_delay: Duration::from_millis(1), ..test_options() });
    disk.plan().hold_syncs = true;
    journal.append(sample_outcome(0)).await.unwrap();
    disk.wait_for_held_sync().await;
    disk.release_syncs();
}

#[tokio::test]
async fn closing_and_dropping_write_every_accepted_record() {
    let dir = tempfile::tempdir().unwrap();
    for mark in 0..4 {
        let journal = Journal::open(dir.path(), test_options()).unwrap();
        journal.append(sample_outcome(mark)).await.unwrap();
        if mark % 2 == 0 {
            journal.close().unwrap();
        } else {
            drop(journal);
        }
    }
    assert_eq!(outcome_marks(dir.path()), [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_full_queue_makes_the_next_append_wait() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal =
        Arc::new(disk.open_journal(dir.path(), JournalOptions { max_queue_bytes: 4096, ..test_options() }));
    disk.plan().hold_syncs = true;
    let all = tokio::spawn({
        let journal = Arc::clone(&journal);
        async move {
            // The sync of the first one blocks the writer, and the others fill the queue.
            let first = tokio::spawn({
                let journal = Arc::clone(&journal);
                async move { journal.append_durable(sample_outcome(0)).await }
            });
            tokio::task::yield_now().await;
            for mark in 1..100 {
                journal.append(sample_outcome(mark)).await.unwrap();
            }
            first.await.unwrap().unwrap();
        }
    });
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!all.is_finished(), "100 records do not fit into 4096 bytes");
    disk.release_syncs();
    all.await.unwrap();
    journal.flush().await.unwrap();
    assert_eq!(outcome_marks(dir.path()), (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_record_larger_than_the_queue_is_appended() {
    let dir = tempfile::tempdir().unwrap();
    let journal =
        Journal::open(dir.path(), JournalOptions { max_queue_bytes: 64, ..test_options() }).unwrap();
    journal.append_durable(testing::sample_refusal(&"x".repeat(100_000))).await.unwrap();
    assert_eq!(verify_journal(dir.path()).unwrap().record_count, 1);
}

#[tokio::test]
async fn a_cancelled_append_is_recorded_nevertheless() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = Arc::new(disk.open_journal(dir.path(), test_options()));
    disk.plan().hold_syncs = true;
    let cancelled = tokio::spawn({
        let journal = Arc::clone(&journal);
        async move { journal.append_durable(sample_outcome(1)).await }
    });
    tokio::task::yield_now().await;
    cancelled.abort();
    assert!(cancelled.await.unwrap_err().is_cancelled());
    disk.release_syncs();
    journal.append_durable(sample_outcome(2)).await.unwrap();
    assert_eq!(outcome_marks(dir.path()), [1, 2]);
}

#[tokio::test]
async fn rotates_segments_and_continues_the_last_one() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let journal =
            Journal::open(dir.path(), JournalOptions { max_segment_bytes: 1000, ..test_options() }).unwrap();
        for mark in 0..10 {
            journal.append_durable(sample_outcome(round * 10 + mark)).await.unwrap();
        }
    }
    let verified = verify_journal(dir.path()).unwrap();
    assert_eq!((verified.segment_count, verified.record_count), (10, 30));
    assert_eq!(outcome_marks(dir.path()), (0..30).collect::<Vec<_>>());
    for number in 1..=10 {
        assert!(file_size(&dir.path().join(segment_file_name(number))) <= 1000);
    }
}

#[tokio::test]
async fn only_the_owner_can_read_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("state").join("journal");
    let journal = Journal::open(&dir, test_options()).unwrap();
    journal.append_durable(sample_outcome(1)).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("lock")), 0o600);
    assert_eq!(mode(&dir.join(segment_file_name(1))), 0o600);
}

#[test]
fn a_second_process_cannot_append() {
    let dir = tempfile::tempdir().unwrap();
    let first = Journal::open(dir.path(), test_options()).unwrap();
    assert!(matches!(Journal::open(dir.path(), test_options()), Err(JournalError::Locked { .. })));
    first.close().unwrap();
    Journal::open(dir.path(), test_options()).unwrap();
}

/// A journal of `count` records in segments of about three records.
async fn write_journal(dir: &Path, count: u64) -> JournalOptions {
    let options = JournalOptions { max_segment_bytes: 1000, ..test_options() };
    let journal = Journal::open(dir, options.clone()).unwrap();
    for mark in 0..count {
        journal.append_durable(sample_outcome(mark)).await.unwrap();
    }
    options
}

fn copy_journal(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn recovers_a_last_frame_that_was_cut_off_anywhere() {
    let whole = tempfile::tempdir().unwrap();
    let options = write_journal(whole.path(), 4).await;
    let last = read_journal(whole.path()).last().unwrap().unwrap().position;
    let name = segment_file_name(last.segment_number);
    let end = file_size(&whole.path().join(&name));
    for cut in last.offset..end {
        let dir = tempfile::tempdir().unwrap();
        copy_journal(whole.path(), dir.path());
        let file = dir.path().join(&name);
        std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(cut).unwrap();
        let tail = (cut > last.offset).then(|| UnfinishedTail {
            file: file.clone(),
            offset: last.offset,
            bytes: cut - last.offset,
        });
        let verified = verify_journal(dir.path()).unwrap();
        assert_eq!((verified.record_count, &verified.tail), (3, &tail), "cut at {cut}");

        let journal = Journal::open(dir.path(), options.clone()).unwrap();
        assert_eq!(journal.recovered_tail(), tail.as_ref(), "cut at {cut}");
        journal.append_durable(sample_outcome(99)).await.unwrap();
        assert_eq!(outcome_marks(dir.path()), [0, 1, 2, 99], "cut at {cut}");
        assert_eq!(verify_journal(dir.path()).unwrap().tail, None);
    }
}

#[tokio::test]
async fn recovers_a_last_segment_that_was_cut_off_in_its_header() {
    let whole = tempfile::tempdir().unwrap();
    let options = write_journal(whole.path(), 4).await;
    let last = read_journal(whole.path()).last().unwrap().unwrap().position;
    assert_eq!(
        (last.segment_number, last.offset),
        (2, SEGMENT_HEADER_BYTES as u64),
        "segment 2 begins with record 4"
    );
    let name = segment_file_name(2);
    for cut in 0..=SEGMENT_HEADER_BYTES as u64 {
        let dir = tempfile::tempdir().unwrap();
        copy_journal(whole.path(), dir.path());
        std::fs::OpenOptions::new().write(true).open(dir.path().join(&name)).unwrap().set_len(cut).unwrap();
        assert_eq!(verify_journal(dir.path()).unwrap().record_count, 3);
        let journal = Journal::open(dir.path(), options.clone()).unwrap();
        assert_eq!(
            journal.recovered_tail().is_some(),
            (1..SEGMENT_HEADER_BYTES as u64).contains(&cut),
            "cut at {cut}"
        );
        journal.append_durable(sample_outcome(99)).await.unwrap();
        assert_eq!(outcome_marks(dir.path()), [0, 1, 2, 99], "cut at {cut}");
    }
}

#[tokio::test]
async fn recovers_zeros_in_place_of_data_that_never_reached_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options = write_journal(dir.path(), 1).await;
    let file = dir.path().join(segment_file_name(1));
    let end = file_size(&file);
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(end + 5000).unwrap();
    let journal = Journal::open(dir.path(), options).unwrap();
    assert_eq!(journal.recovered_tail().map(|tail| (tail.offset, tail.bytes)), Some((end, 5000)));
    journal.append_durable(sample_outcome(1)).await.unwrap();
    assert_eq!(outcome_marks(dir.path()), [0, 1]);
}

#[tokio::test]
async fn does_not_continue_a_corrupt_segment() {
    let dir = tempfile::tempdir().unwrap();
    let options = write_journal(dir.path(), 2).await;
    let file = dir.path().join(segment_file_name(1));
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[end - 3] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    match Journal::open(dir.path(), options) {
        Err(JournalError::Corrupt(corruption)) => {
            assert!(matches!(corruption.kind, CorruptionKind::ChecksumMismatch));
            assert_eq!((corruption.record_number, &corruption.file), (2, &file));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "nothing was cut off");
}

#[tokio::test]
async fn a_full_disk_refuses_and_resumes_when_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = disk.open_journal(dir.path(), test_options());
    journal.append_durable(sample_outcome(0)).await.unwrap();
    let end = file_size(&dir.path().join(segment_file_name(1)));
    for space in [0, 1, 43, 44, 100] {
        disk.plan().free_bytes = Some(space);
        let error = journal.append_durable(sample_outcome(1000)).await.unwrap_err();
        assert!(matches!(error, JournalError::DiskFull { .. }), "{error}");
        assert_eq!(error.refusal().reason, durward_core::RefusalReason::Internal);
        // The disk is known to be full now: an append without a waiter is refused too.
        disk.plan().free_bytes = Some(space);
        let error = journal.append(sample_outcome(1001)).await.unwrap_err();
        assert!(matches!(error, JournalError::DiskFull { .. }), "{error}");
        assert_eq!(file_size(&dir.path().join(segment_file_name(1))), end, "the partial batch was truncated");
        assert_eq!(outcome_marks(dir.path()), [0]);
    }
    disk.plan().free_bytes = None;
    journal.append(sample_outcome(1)).await.unwrap();
    journal.append_durable(sample_outcome(2)).await.unwrap();
    journal.close().unwrap();
    assert_eq!(outcome_marks(dir.path()), [0, 1, 2]);
}

#[tokio::test]
async fn records_accepted_before_the_disk_was_full_are_written_later() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = Arc::new(disk.open_journal(dir.path(), test_options()));
    disk.plan().hold_syncs = true;
    let first = tokio::spawn({
        let journal = Arc::clone(&journal);
        async move { journal.append_durable(sample_outcome(0)).await }
    });
    tokio::task::yield_now().await;
    disk.wait_for_held_sync().await;
    disk.plan().free_bytes = Some(700);
    // These are in the queue when the disk becomes full: one with a waiter between two without.
    journal.append(sample_outcome(1)).await.unwrap();
    let waiting = tokio::spawn({
        let journal = Arc::clone(&journal);
        async move { journal.append_durable(sample_outcome(1000)).await }
    });
    tokio::task::yield_now().await;
    journal.append(sample_outcome(2)).await.unwrap();
    disk.release_syncs();
    first.await.unwrap().unwrap();
    assert!(matches!(waiting.await.unwrap(), Err(JournalError::DiskFull { .. })));
    disk.plan().free_bytes = None;
    journal.append_durable(sample_outcome(3)).await.unwrap();
    assert_eq!(outcome_marks(dir.path()), [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_partial_batch_that_could_not_be_truncated_is_truncated_before_the_next_write() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = disk.open_journal(dir.path(), test_options());
    journal.append_durable(sample_outcome(0)).await.unwrap();
    {
        let mut plan = disk.plan();
        plan.free_bytes = Some(100);
        plan.truncate_error = Some(ErrorKind::StorageFull);
    }
    journal.append_durable(sample_outcome(1)).await.unwrap_err();
    assert_eq!(verify_journal(dir.path()).unwrap().tail.map(|tail| tail.bytes), Some(100));
    disk.plan().free_bytes = None;
    journal.append_durable(sample_outcome(2)).await.unwrap_err();
    disk.plan().truncate_error = None;
    journal.append_durable(sample_outcome(3)).await.unwrap();
    assert_eq!(outcome_marks(dir.path()), [0, 3]);
}

#[tokio::test]
async fn a_disk_that_is_full_at_a_rotation_leaves_no_partial_segment() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = disk.open_journal(dir.path(), JournalOptions { max_segment_bytes: 500, ..test_options() });
    journal.append_durable(sample_outcome(0)).await.unwrap();
    for space in [0, 10, SEGMENT_HEADER_BYTES] {
        disk.plan().free_bytes = Some(space);
        let error = journal.append_durable(sample_outcome(1000)).await.unwrap_err();
        assert!(matches!(error, JournalError::DiskFull { .. }), "{error}");
        assert_eq!(verify_journal(dir.path()).unwrap().tail, None);
    }
    disk.plan().free_bytes = None;
    journal.append_durable(sample_outcome(1)).await.unwrap();
    assert_eq!(outcome_marks(dir.path()), [0, 1]);
    assert_eq!(verify_journal(dir.path()).unwrap().segment_count, 2);
}

#[tokio::test]
async fn without_a_file_descriptor_the_segment_grows_until_there_is_one() {
    for errno in [23, 24] {
        let dir = tempfile::tempdir().unwrap();
        let disk = TestDisk::default();
        let options = JournalOptions { max_segment_bytes: 500, ..test_options() };
        let journal = disk.open_journal(dir.path(), options);
        disk.plan().create_errno = Some(errno);
        for mark in 0..5 {
            journal.append_durable(sample_outcome(mark)).await.unwrap();
        }
        assert_eq!(verify_journal(dir.path()).unwrap().segment_count, 1);
        disk.plan().create_errno = None;
        journal.append_durable(sample_outcome(5)).await.unwrap();
        assert_eq!(verify_journal(dir.path()).unwrap().segment_count, 2);
        assert_eq!(outcome_marks(dir.path()), [0, 1, 2, 3, 4, 5]);
    }
}

#[tokio::test]
async fn a_journal_that_was_deleted_or_replaced_acknowledges_nothing() {
    type Attack = fn(&std::path::Path, &std::path::Path);
    let attacks: [Attack; 4] = [
        |_dir, segment| std::fs::remove_file(segment).unwrap(),
        |dir, _segment| std::fs::remove_dir_all(dir).unwrap(),
        |dir, _segment| {
            std::fs::rename(dir, dir.with_extension("moved")).unwrap();
            std::fs::create_dir(dir).unwrap();
        },
        |_dir, segment| {
            let copy = segment.with_extension("copy");
            std::fs::copy(segment, &copy).unwrap();
            std::fs::rename(copy, segment).unwrap();
        },
    ];
    for attack in attacks {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("journal");
        let journal = Journal::open(&dir, test_options()).unwrap();
        journal.append_durable(sample_outcome(0)).await.unwrap();
        let segment = std::fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|extension| extension == "journal"))
            .unwrap();
        attack(&dir, &segment);
        let error = journal.append_durable(sample_outcome(1)).await.unwrap_err();
        assert!(matches!(error, JournalError::Replaced { .. }), "{error}");
        journal.append_durable(sample_outcome(2)).await.unwrap_err();
    }
}

#[tokio::test]
async fn after_a_failed_sync_the_journal_takes_no_more_records() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = disk.open_journal(dir.path(), test_options());
    journal.append_durable(sample_outcome(0)).await.unwrap();
    disk.plan().sync_error = Some(ErrorKind::Other);
    let error = journal.append_durable(sample_outcome(1)).await.unwrap_err();
    assert!(matches!(error, JournalError::DiskFailed { action: "sync", .. }), "{error}");
    let before = disk.sync_and_append_counts();
    disk.plan().sync_error = None;
    for _ in 0..3 {
        assert!(matches!(
            journal.append_durable(sample_outcome(2)).await,
            Err(JournalError::DiskFailed { .. })
        ));
        assert!(matches!(journal.append(sample_outcome(3)).await, Err(JournalError::DiskFailed { .. })));
        assert!(matches!(journal.flush().await, Err(JournalError::DiskFailed { .. })));
    }
    assert_eq!(disk.sync_and_append_counts(), before, "the file was not written or synced again");
    assert!(matches!(journal.close(), Err(JournalError::DiskFailed { .. })));
    let journal = Journal::open(dir.path(), test_options()).unwrap();
    journal.append_durable(sample_outcome(4)).await.unwrap();
    assert_eq!(outcome_marks(dir.path()), [0, 4], "the refused record is not in the journal");
}

#[tokio::test]
async fn a_failed_write_is_reported_to_every_task_that_waits() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal =
        Arc::new(disk.open_journal(dir.path(), JournalOptions { max_queue_bytes: 1000, ..test_options() }));
    disk.plan().hold_syncs = true;
    let tasks: Vec<_> = (0..20)
        .map(|mark| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move { journal.append_durable(sample_outcome(mark)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    disk.wait_for_held_sync().await;
    disk.plan().append_error = Some(ErrorKind::Other);
    disk.release_syncs();
    let mut written = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => written += 1,
            Err(error) => {
                assert!(matches!(error, JournalError::DiskFailed { action: "write to", .. }), "{error}");
            }
        }
    }
    assert!((1..20).contains(&written), "{written}");
    assert_eq!(outcome_marks(dir.path()).len(), written);
}
