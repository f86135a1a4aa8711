-- A state file of format version 3, as text.
PRAGMA journal_mode = WAL;
PRAGMA application_id = 1718382455;
PRAGMA user_version = 3;
BEGIN TRANSACTION;
CREATE TABLE entries (
            key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, stored REAL NOT NULL, expires REAL, metadata TEXT, beside TEXT);
INSERT INTO "entries" VALUES('rows','{"$tuple": [1, 2]}',1.79603755849494791025e+09,NULL,NULL,NULL);
CREATE TABLE pins (name TEXT NOT NULL, token TEXT NOT NULL, owner TEXT NOT NULL, PRIMARY KEY (name, token));
CREATE TABLE plans (key TEXT PRIMARY KEY NOT NULL, content TEXT NOT NULL);
INSERT INTO "plans" VALUES('901d25e49a7bef3f8e0652d661d84d82bff239e6f5d4b252bbbc24237412062e','{"tasks": [["extract", [], "none_failed", "41a3667cb8ec14a45bf469b861373c406d2d8e563f55c5e296ff585f279f6528"], ["transform", [0], "none_failed", "202438f60079aa2c4217684335e7e9384cacde55f0778239f0b6e46036686a0e"]], "codes": {"41a3667cb8ec14a45bf469b861373c406d2d8e563f55c5e296ff585f279f6528": {"fingerprint format": "2", "function recorded_runs.extract": "db0fb9f8922bbce9ba74f06a024af9527b8b2ac2fa14443041e1dfcd97f53671"}, "202438f60079aa2c4217684335e7e9384cacde55f0778239f0b6e46036686a0e": {"fingerprint format": "2", "function recorded_runs.transform": "fe1b3276518a03a8678b01e0898d9878e55aa9af9ae2070fb93942bf2529f80b"}}}');
CREATE TABLE runs (
            id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL UNIQUE, pipeline TEXT NOT NULL,
            plan TEXT NOT NULL REFERENCES plans (key), params TEXT NOT NULL, status TEXT NOT NULL,
            started REAL NOT NULL, ended REAL, seconds REAL, resumes INTEGER NOT NULL DEFAULT 0, error TEXT,
            owner TEXT, identity TEXT);
INSERT INTO "runs" VALUES(1,'a','etl','901d25e49a7bef3f8e0652d661d84d82bff239e6f5d4b252bbbc24237412062e','{"day": ["6b60b58246336010523a017a24649499526934067d310e165a111e283896a326", "''2026-11-29''"], "limit": ["06d033ece6645de592db973644cf7357255f24536ff7b03c3b2ace10736f7636", "3"]}','failed',1.79603755855964589117e+09,1.79603755856725883486e+09,3.89037499996902624843e-03,0,'ValueError: no',NULL,'fb6d9dc7364b1bdc65cbc7080ed65788cda3438a6d17fa310c70129dcf1fec78');
INSERT INTO "runs" VALUES(2,'b','etl','901d25e49a7bef3f8e0652d661d84d82bff239e6f5d4b252bbbc24237412062e','{"day": ["fe6ddfdf9e7edbfe8410a23cc210f0769bf42f116a103d30c12ff61df83bba9b", "''2026-11-30''"], "limit": ["06d033ece6645de592db973644cf7357255f24536ff7b03c3b2ace10736f7636", "3"]}','succeeded',1.79603755856835913657e+09,1.79603755856900835032e+09,0.000289502999976321,0,NULL,NULL,'1fa785898350b29ceaf86d289abe2b9e47f64662ddc2a90dd133adb3ee48cd2e');
INSERT INTO "runs" VALUES(3,'c','etl','901d25e49a7bef3f8e0652d661d84d82bff239e6f5d4b252bbbc24237412062e','{"day": [null, "<object object at 0x7f0000000000>"], "limit": ["06d033ece6645de592db973644cf7357255f24536ff7b03c3b2ace10736f7636", "3"]}','interrupted',1.79603755856968760494e+09,1.79603755857018280031e+09,2.78331999993497447576e-04,0,NULL,NULL,'');
INSERT INTO "runs" VALUES(4,'d','etl','901d25e49a7bef3f8e0652d661d84d82bff239e6f5d4b252bbbc24237412062e','{}','failed',1.79603755857060813899e+09,1.79603755857210540766e+09,0.000249328000109017,1,'ValueError: still no',NULL,'cf1cbb66a638b4860a516671fb74850e6ccf787fe6c4c8d29e9c04efe880bd05');
CREATE TABLE settings (name TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL);
INSERT INTO "settings" VALUES('digest key',X'B9D7AB61E059BFAA0E17F486FD62B60A2F5142043E1CF74A1A3C5FDB83B60222');
CREATE TABLE tasks (
            run INTEGER NOT NULL REFERENCES runs (id), place INTEGER NOT NULL, name TEXT NOT NULL,
            state TEXT NOT NULL, attempts INTEGER NOT NULL, ended REAL NOT NULL, seconds REAL NOT NULL, value BLOB,
            beside TEXT, reason TEXT, error TEXT, source TEXT NOT NULL, why TEXT,
            PRIMARY KEY (run, place)) WITHOUT ROWID;
INSERT INTO "tasks" VALUES(1,0,'extract','succeeded',1,1.79603755856365919114e+09,0.5,'[3]',NULL,NULL,NULL,'run',NULL);
INSERT INTO "tasks" VALUES(1,1,'transform','failed',3,1.79603755856378507612e+09,0.5,NULL,NULL,NULL,'["ValueError", "no", "Traceback (most recent call last):\n  File \"gen3.py\", line 15, in err\n    try: failing()\n         ^^^^^^^^^\n  File \"gen3.py\", line 13, in failing\n    raise ValueError(\"no\")\nValueError: no\n"]','run',NULL);
INSERT INTO "tasks" VALUES(2,0,'extract','succeeded',1,1.79603755856888222695e+09,0.5,'[4]',NULL,NULL,NULL,'run',NULL);
INSERT INTO "tasks" VALUES(2,1,'transform','succeeded',1,1796037558.56897,0.5,'[5]',NULL,NULL,NULL,'run',NULL);
INSERT INTO "tasks" VALUES(3,0,'extract','succeeded',1,1.79603755857013726239e+09,0.5,'[6]',NULL,NULL,NULL,'run',NULL);
INSERT INTO "tasks" VALUES(3,1,'transform','cancelled',0,1.79603755857018280031e+09,0.0,NULL,NULL,'called off',NULL,'run',NULL);
INSERT INTO "tasks" VALUES(4,0,'extract','succeeded',1,1.79603755857099246979e+09,0.5,'[7]',NULL,NULL,NULL,'run',NULL);
INSERT INTO "tasks" VALUES(4,1,'transform','upstream_failed',0,1.79603755857210540766e+09,0.0,NULL,NULL,'''extract'' failed',NULL,'run',NULL);
CREATE INDEX entries_by_expiry ON entries (expires) WHERE expires IS NOT NULL;
CREATE INDEX runs_by_pipeline ON runs (pipeline, id);
CREATE INDEX runs_by_identity ON runs (pipeline, identity, id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('runs',4);
COMMIT;
