-- A state file of format version 4, as text.
PRAGMA journal_mode = WAL;
PRAGMA application_id = 1718382455;
PRAGMA user_version = 4;
BEGIN TRANSACTION;
CREATE TABLE attempts (
            run INTEGER NOT NULL REFERENCES runs (id), element INTEGER NOT NULL, execution INTEGER NOT NULL,
            place INTEGER NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, label TEXT, state TEXT NOT NULL,
            ready REAL, ended REAL NOT NULL, seconds REAL, worker TEXT, process INTEGER, host TEXT, value BLOB,
            beside TEXT, reason TEXT, error TEXT, source TEXT NOT NULL, why TEXT,
            PRIMARY KEY (run, element, execution, place, number)) WITHOUT ROWID;
INSERT INTO "attempts" VALUES(1,-1,1,0,1,'extract',NULL,'succeeded',NULL,1.79607705911755537991e+09,0.5,NULL,NULL,NULL,'[3]',NULL,NULL,NULL,'run',NULL);
INSERT INTO "attempts" VALUES(1,-1,1,1,1,'transform',NULL,'retrying',NULL,1.79607705911782097821e+09,0.5,'w1',NULL,NULL,NULL,NULL,NULL,'["ValueError", "no", "Traceback (most recent call last):\n  File \"<string>\", line 10, in <module>\n  File \"<string>\", line 9, in failing\nValueError: no\n"]','run',NULL);
INSERT INTO "attempts" VALUES(1,-1,1,1,2,'transform',NULL,'failed',NULL,1.79607705912509322166e+09,0.5,'w1',NULL,NULL,NULL,NULL,NULL,'["ValueError", "no", "Traceback (most recent call last):\n  File \"<string>\", line 10, in <module>\n  File \"<string>\", line 9, in failing\nValueError: no\n"]','run',NULL);
INSERT INTO "attempts" VALUES(2,-1,1,0,1,'extract',NULL,'succeeded',NULL,1.79607705913952636718e+09,0.5,NULL,NULL,NULL,'[4]',NULL,NULL,NULL,'run',NULL);
INSERT INTO "attempts" VALUES(2,-1,1,1,1,'transform',NULL,'succeeded',NULL,1.79607705913965654377e+09,0.5,NULL,NULL,NULL,'[5]',NULL,NULL,NULL,'run',NULL);
CREATE TABLE entries (
            key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, stored REAL NOT NULL, expires REAL, metadata TEXT, beside TEXT);
CREATE TABLE executions (
            run INTEGER NOT NULL REFERENCES runs (id), number INTEGER NOT NULL, plan TEXT NOT NULL,
            started REAL NOT NULL, ended REAL, process INTEGER, host TEXT, outcome TEXT, error TEXT,
            PRIMARY KEY (run, number)) WITHOUT ROWID;
INSERT INTO "executions" VALUES(1,1,'901d25e49a7bef3f8e0652d661d84d82bff239e6f5d4b252bbbc24237412062e',1.79607705910145545001e+09,1.79607705912534260745e+09,17628,'vm','failed','Traceback (most recent call last):
  File "<string>", line 10, in <module>
  File "<string>", line 9, in failing
ValueError: no
');
INSERT INTO "executions" VALUES(2,1,'901d25e49a7bef3f8e0652d661d84d82bff239e6f5d4b252bbbc24237412062e',1.79607705913876724247e+09,1.7960770591397123337e+09,17628,'vm','succeeded',NULL);
CREATE TABLE notes (
            run INTEGER NOT NULL REFERENCES runs (id), task TEXT NOT NULL, element INTEGER NOT NULL, key TEXT NOT NULL,
            value BLOB NOT NULL, beside TEXT, PRIMARY KEY (run, task, element, key)) WITHOUT ROWID;
CREATE TABLE params (
            run INTEGER NOT NULL REFERENCES runs (id), name TEXT NOT NULL, value BLOB NOT NULL, beside TEXT,
            PRIMARY KEY (run, name)) WITHOUT ROWID;
INSERT INTO "params" VALUES(1,'day','"2026-11-29"',NULL);
INSERT INTO "params" VALUES(2,'day','"2026-11-30"',NULL);
CREATE TABLE pins (name TEXT NOT NULL, token TEXT NOT NULL, owner TEXT NOT NULL, PRIMARY KEY (name, token));
CREATE TABLE plans (key TEXT PRIMARY KEY NOT NULL, content TEXT NOT NULL);
INSERT INTO "plans" VALUES('901d25e49a7bef3f8e0652d661d84d82bff239e6f5d4b252bbbc24237412062e','{"tasks": [["extract", [], "none_failed", "41a3667cb8ec14a45bf469b861373c406d2d8e563f55c5e296ff585f279f6528"], ["transform", [0], "none_failed", "202438f60079aa2c4217684335e7e9384cacde55f0778239f0b6e46036686a0e"]], "codes": {"41a3667cb8ec14a45bf469b861373c406d2d8e563f55c5e296ff585f279f6528": {"fingerprint format": "2", "function recorded_runs.extract": "db0fb9f8922bbce9ba74f06a024af9527b8b2ac2fa14443041e1dfcd97f53671"}, "202438f60079aa2c4217684335e7e9384cacde55f0778239f0b6e46036686a0e": {"fingerprint format": "2", "function recorded_runs.transform": "fe1b3276518a03a8678b01e0898d9878e55aa9af9ae2070fb93942bf2529f80b"}}}');
CREATE TABLE runs (
            id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL UNIQUE, pipeline TEXT NOT NULL,
            plan TEXT NOT NULL REFERENCES plans (key), params TEXT NOT NULL, status TEXT NOT NULL,
            started REAL NOT NULL, ended REAL, seconds REAL, resumes INTEGER NOT NULL DEFAULT 0, error TEXT,
            owner TEXT, identity TEXT, parent TEXT, rerun TEXT);
INSERT INTO "runs" VALUES(1,'a','etl','901d25e49a7bef3f8e0652d661d84d82bff239e6f5d4b252bbbc24237412062e','{"day": ["6b60b58246336010523a017a24649499526934067d310e165a111e283896a326", "''2026-11-29''"]}','failed',1.79607705910145545001e+09,1.79607705912534260745e+09,8.19174000002931279595e-03,0,'ValueError: no',NULL,'c061da045ea67080784eb68ccca572031a33ae3de69abe605e1d24f0205d6b83',NULL,NULL);
INSERT INTO "runs" VALUES(2,'b','etl','901d25e49a7bef3f8e0652d661d84d82bff239e6f5d4b252bbbc24237412062e','{"day": ["fe6ddfdf9e7edbfe8410a23cc210f0769bf42f116a103d30c12ff61df83bba9b", "''2026-11-30''"]}','succeeded',1.79607705913876724247e+09,1.7960770591397123337e+09,4.47205999989819247275e-04,0,NULL,NULL,'58b247995df8fea1481f75caa52e735686b0648a565a513520152cea72a3315a',NULL,NULL);
CREATE TABLE settings (name TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL);
INSERT INTO "settings" VALUES('digest key',X'072A02A1BB246AC8DE7E50B8B8B91B2BEC5E6F27168959958A53C189686F6493');
CREATE INDEX entries_by_expiry ON entries (expires) WHERE expires IS NOT NULL;
CREATE INDEX runs_by_pipeline ON runs (pipeline, id);
CREATE INDEX runs_by_identity ON runs (pipeline, identity, id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('runs',2);
COMMIT;
