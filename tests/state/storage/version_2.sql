-- A state file of format version 2, as text.
PRAGMA journal_mode = WAL;
PRAGMA application_id = 1718382455;
PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE entries (
            key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, stored REAL NOT NULL, expires REAL, metadata TEXT, beside TEXT);
INSERT INTO "entries" VALUES('rows','{"$tuple": [1, 2]}',1.79602466368941259379e+09,NULL,NULL,NULL);
CREATE TABLE pins (name TEXT NOT NULL, token TEXT NOT NULL, owner TEXT NOT NULL, PRIMARY KEY (name, token));
CREATE TABLE plans (key TEXT PRIMARY KEY NOT NULL, content TEXT NOT NULL);
INSERT INTO "plans" VALUES('901d25e49a7bef3f8e0652d661d84d82bff239e6f5d4b252bbbc24237412062e','{"tasks": [["extract", [], "none_failed", "41a3667cb8ec14a45bf469b861373c406d2d8e563f55c5e296ff585f279f6528"], ["transform", [0], "none_failed", "202438f60079aa2c4217684335e7e9384cacde55f0778239f0b6e46036686a0e"]], "codes": {"41a3667cb8ec14a45bf469b861373c406d2d8e563f55c5e296ff585f279f6528": {"fingerprint format": "2", "function recorded_runs.extract": "db0fb9f8922bbce9ba74f06a024af9527b8b2ac2fa14443041e1dfcd97f53671"}, "202438f60079aa2c4217684335e7e9384cacde55f0778239f0b6e46036686a0e": {"fingerprint format": "2", "function recorded_runs.transform": "fe1b3276518a03a8678b01e0898d9878e55aa9af9ae2070fb93942bf2529f80b"}}}');
CREATE TABLE runs (
            id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL UNIQUE, pipeline TEXT NOT NULL,
            plan TEXT NOT NULL REFERENCES plans (key), params TEXT NOT NULL, status TEXT NOT NULL,
            started REAL NOT NULL, ended REAL, seconds REAL, resumes INTEGER NOT NULL DEFAULT 0, error TEXT,
            owner TEXT);
INSERT INTO "runs" VALUES(1,'a','etl','901d25e49a7bef3f8e0652d661d84d82bff239e6f5d4b252bbbc24237412062e','{"day": ["6b60b58246336010523a017a24649499526934067d310e165a111e283896a326", "''2026-11-29''"], "limit": ["06d033ece6645de592db973644cf7357255f24536ff7b03c3b2ace10736f7636", "3"]}','failed',1.79602466375560617444e+09,1.7960246637655563355e+09,2.97049999971932265907e-04,0,'ValueError: no',NULL);
INSERT INTO "runs" VALUES(2,'b','etl','901d25e49a7bef3f8e0652d661d84d82bff239e6f5d4b252bbbc24237412062e','{"day": ["fe6ddfdf9e7edbfe8410a23cc210f0769bf42f116a103d30c12ff61df83bba9b", "''2026-11-30''"], "limit": ["06d033ece6645de592db973644cf7357255f24536ff7b03c3b2ace10736f7636", "3"]}','succeeded',1.79602466376592731478e+09,1.79602466376630806924e+09,1.84963999345200136303e-04,0,NULL,NULL);
INSERT INTO "runs" VALUES(3,'c','etl','901d25e49a7bef3f8e0652d661d84d82bff239e6f5d4b252bbbc24237412062e','{"day": [null, "<object object at 0x7f0000000000>"], "limit": ["06d033ece6645de592db973644cf7357255f24536ff7b03c3b2ace10736f7636", "3"]}','interrupted',1.79602466376657152183e+09,1.7960246637725815773e+09,1.98243999875558074563e-04,0,NULL,NULL);
INSERT INTO "runs" VALUES(4,'d','etl','901d25e49a7bef3f8e0652d661d84d82bff239e6f5d4b252bbbc24237412062e','{}','failed',1.79602466377279186247e+09,1.79602466377306270602e+09,1.0791000022436492145e-04,0,NULL,NULL);
CREATE TABLE tasks (
            run INTEGER NOT NULL REFERENCES runs (id), place INTEGER NOT NULL, name TEXT NOT NULL,
            state TEXT NOT NULL, attempts INTEGER NOT NULL, ended REAL NOT NULL, seconds REAL NOT NULL, value BLOB,
            beside TEXT, reason TEXT, error TEXT, source TEXT NOT NULL, why TEXT,
            PRIMARY KEY (run, place)) WITHOUT ROWID;
INSERT INTO "tasks" VALUES(1,0,'extract','succeeded',1,1.79602466376548814772e+09,0.5,'[3]',NULL,NULL,NULL,'run',NULL);
INSERT INTO "tasks" VALUES(1,1,'transform','cancelled',0,1.7960246637655563355e+09,0.0,NULL,NULL,'called off',NULL,'run',NULL);
INSERT INTO "tasks" VALUES(2,0,'extract','succeeded',1,1.79602466376621627808e+09,0.5,'[4]',NULL,NULL,NULL,'run',NULL);
INSERT INTO "tasks" VALUES(2,1,'transform','succeeded',1,1.79602466376627731324e+09,0.5,'[5]',NULL,NULL,NULL,'run',NULL);
INSERT INTO "tasks" VALUES(3,0,'extract','succeeded',1,1.79602466377255272867e+09,0.5,'[6]',NULL,NULL,NULL,'run',NULL);
INSERT INTO "tasks" VALUES(4,0,'extract','succeeded',1,1.79602466377303695678e+09,0.5,'[7]',NULL,NULL,NULL,'run',NULL);
CREATE INDEX entries_by_expiry ON entries (expires) WHERE expires IS NOT NULL;
CREATE INDEX runs_by_pipeline ON runs (pipeline, id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('runs',4);
COMMIT;
