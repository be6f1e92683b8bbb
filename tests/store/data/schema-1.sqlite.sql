BEGIN TRANSACTION;
CREATE TABLE accounts (
	id VARCHAR(64) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	role VARCHAR(20) NOT NULL, 
	token_digest VARCHAR(64) NOT NULL, 
	created DOUBLE NOT NULL, 
	disabled_at DOUBLE, 
	PRIMARY KEY (id), 
	UNIQUE (name), 
	UNIQUE (token_digest)
);
INSERT INTO "accounts" VALUES('acc-46998c001b65','ada','data_scientist','8901367b5bdae17c6ccb5bf44afa0c6cbf6671c94ea662bf2c22841a84f76764',1.7959183510463309288e+09,NULL);
INSERT INTO "accounts" VALUES('acc-e1cbd80895d3','olga','data_owner','ad4a4a11a4dfb377efd5b2a002be73ab4f75e1de8e95b0dbe67313e76218072c',1.79591835105702877042e+09,NULL);
CREATE TABLE checkpoints (
	run VARCHAR(64) NOT NULL, 
	step INTEGER NOT NULL, 
	time DOUBLE NOT NULL, 
	sha VARCHAR(64), 
	inline BLOB, 
	PRIMARY KEY (run, step), 
	FOREIGN KEY(run) REFERENCES runs (id)
);
INSERT INTO "checkpoints" VALUES('run-running',0,1.79591835119736099239e+09,NULL,X'70000000000000007B225F5F6D657461646174615F5F223A7B2268616E7365223A2231222C2264617461223A227B5C22737465705C223A307D227D2C2277223A7B226474797065223A22463634222C227368617065223A5B335D2C22646174615F6F666673657473223A5B302C32345D7D7D202020202020000000000000000000000000000000000000000000000000');
INSERT INTO "checkpoints" VALUES('run-running',1,1.79591835120145177839e+09,NULL,X'70000000000000007B225F5F6D657461646174615F5F223A7B2268616E7365223A2231222C2264617461223A227B5C22737465705C223A317D227D2C2277223A7B226474797065223A22463634222C227368617065223A5B335D2C22646174615F6F666673657473223A5B302C32345D7D7D202020202020000000000000F03F000000000000F03F000000000000F03F');
CREATE TABLE consents (
	run VARCHAR(64) NOT NULL, 
	node VARCHAR(64) NOT NULL, 
	decision VARCHAR(10) NOT NULL, 
	hash VARCHAR(128) NOT NULL, 
	actor VARCHAR(200) NOT NULL, 
	via VARCHAR(20) NOT NULL, 
	reason TEXT NOT NULL, 
	time DOUBLE NOT NULL, 
	PRIMARY KEY (run, node), 
	FOREIGN KEY(run) REFERENCES runs (id)
);
INSERT INTO "consents" VALUES('run-completed','north','accept','hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh','olga','node','',1795918351.11433);
INSERT INTO "consents" VALUES('run-completed','south','accept','hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh','olga','node','',1.79591835112180328365e+09);
INSERT INTO "consents" VALUES('run-running','north','accept','hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh','olga','node','',1.7959183511854662895e+09);
INSERT INTO "consents" VALUES('run-running','south','accept','hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh','olga','node','',1.79591835118958210951e+09);
INSERT INTO "consents" VALUES('run-failed','north','accept','hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh','olga','node','',1.79591835122152137758e+09);
INSERT INTO "consents" VALUES('run-failed','south','accept','hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh','olga','node','',1.79591835122562837605e+09);
CREATE TABLE events (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	time DOUBLE NOT NULL, 
	run VARCHAR(64), 
	node VARCHAR(64), 
	kind VARCHAR(64) NOT NULL, 
	actor VARCHAR(200) NOT NULL, 
	detail JSON NOT NULL
);
INSERT INTO "events" VALUES(1,1.79591835104824757577e+09,NULL,NULL,'account.created','system','{"account":"acc-46998c001b65","name":"ada","role":"data_scientist"}');
INSERT INTO "events" VALUES(2,1.79591835105850505826e+09,NULL,NULL,'account.created','system','{"account":"acc-e1cbd80895d3","name":"olga","role":"data_owner"}');
INSERT INTO "events" VALUES(3,1.79591835106182503697e+09,NULL,'north','join_token.created','operator','{"id":"join-bb6e6c8913e7"}');
INSERT INTO "events" VALUES(4,1.79591835107038307189e+09,NULL,'north','node.enrolled','token join-bb6e6c8913e7','{"serial":"1north"}');
INSERT INTO "events" VALUES(5,1.7959183510780944824e+09,NULL,'north','node.described','north','{"changed":["capabilities","datasets"]}');
INSERT INTO "events" VALUES(6,1.79591835108145904537e+09,NULL,'south','join_token.created','operator','{"id":"join-dbf62d8a61f6"}');
INSERT INTO "events" VALUES(7,1.79591835108651161193e+09,NULL,'south','node.enrolled','token join-dbf62d8a61f6','{"serial":"1south"}');
INSERT INTO "events" VALUES(8,1.79591835108938550945e+09,NULL,'south','node.described','south','{"changed":["capabilities","datasets"]}');
INSERT INTO "events" VALUES(9,1.79591835109459733964e+09,'run-completed',NULL,'run.created','ada','{"state":"pending"}');
INSERT INTO "events" VALUES(10,1.79591835110699105269e+09,'run-completed',NULL,'run.state','ada','{"from":"pending","to":"awaiting_consent","reason":""}');
INSERT INTO "events" VALUES(11,1.79591835111535215374e+09,'run-completed','north','consent','olga','{"decision":"accept","before":null,"hash":"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh","via":"node","reason":""}');
INSERT INTO "events" VALUES(12,1.79591835112186741832e+09,'run-completed','south','consent','olga','{"decision":"accept","before":null,"hash":"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh","via":"node","reason":""}');
INSERT INTO "events" VALUES(13,1.79591835112639212606e+09,'run-completed',NULL,'run.state','hanse','{"from":"awaiting_consent","to":"running","reason":"all nodes accepted"}');
INSERT INTO "events" VALUES(14,1.79591835113185024257e+09,'run-completed',NULL,'round','','{"step":0,"label":"train","round":1,"status":"ok","seconds":4.76837158203125e-06,"participants":[],"failures":{},"metrics":{"loss":1.0}}');
INSERT INTO "events" VALUES(15,1.79591835114174318312e+09,'run-completed',NULL,'round','','{"step":1,"label":"train","round":2,"status":"ok","seconds":9.5367431640625e-06,"participants":[],"failures":{},"metrics":{"loss":0.5}}');
INSERT INTO "events" VALUES(16,1.79591835114606738089e+09,'run-completed',NULL,'round','','{"step":2,"label":"train","round":3,"status":"ok","seconds":6.4373016357421875e-06,"participants":[],"failures":{},"metrics":{"loss":0.3333333333333333}}');
INSERT INTO "events" VALUES(17,1.7959183511594309807e+09,'run-completed',NULL,'model','','{"version":1,"round":3,"sha":"efd7b6dcd2e5753d6e8dc8d1510612f9d12267ff0db1a5b0b8d10b9ed8681a0e"}');
INSERT INTO "events" VALUES(18,1.79591835116624951368e+09,'run-completed',NULL,'run.state','coordinator','{"from":"running","to":"completed","reason":""}');
INSERT INTO "events" VALUES(19,1.79591835117779278756e+09,'run-running',NULL,'run.created','ada','{"state":"pending"}');
INSERT INTO "events" VALUES(20,1.79591835118196320531e+09,'run-running',NULL,'run.state','ada','{"from":"pending","to":"awaiting_consent","reason":""}');
INSERT INTO "events" VALUES(21,1.79591835118553042405e+09,'run-running','north','consent','olga','{"decision":"accept","before":null,"hash":"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh","via":"node","reason":""}');
INSERT INTO "events" VALUES(22,1795918351.18964,'run-running','south','consent','olga','{"decision":"accept","before":null,"hash":"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh","via":"node","reason":""}');
INSERT INTO "events" VALUES(23,1.79591835119393897061e+09,'run-running',NULL,'run.state','hanse','{"from":"awaiting_consent","to":"running","reason":"all nodes accepted"}');
INSERT INTO "events" VALUES(24,1.79591835119746255871e+09,'run-running',NULL,'round','','{"step":0,"label":"train","round":1,"status":"ok","seconds":4.5299530029296875e-06,"participants":[],"failures":{},"metrics":{"loss":1.0}}');
INSERT INTO "events" VALUES(25,1.79591835120156931879e+09,'run-running',NULL,'round','','{"step":1,"label":"train","round":2,"status":"ok","seconds":6.198883056640625e-06,"participants":[],"failures":{},"metrics":{"loss":0.5}}');
INSERT INTO "events" VALUES(26,1.79591835120570087434e+09,'run-waiting',NULL,'run.created','ada','{"state":"pending"}');
INSERT INTO "events" VALUES(27,1.79591835120999979971e+09,'run-waiting',NULL,'run.state','ada','{"from":"pending","to":"awaiting_consent","reason":""}');
INSERT INTO "events" VALUES(28,1.79591835121351289751e+09,'run-failed',NULL,'run.created','ada','{"state":"pending"}');
INSERT INTO "events" VALUES(29,1.79591835121796488759e+09,'run-failed',NULL,'run.state','ada','{"from":"pending","to":"awaiting_consent","reason":""}');
INSERT INTO "events" VALUES(30,1.79591835122158408164e+09,'run-failed','north','consent','olga','{"decision":"accept","before":null,"hash":"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh","via":"node","reason":""}');
INSERT INTO "events" VALUES(31,1.7959183512256937027e+09,'run-failed','south','consent','olga','{"decision":"accept","before":null,"hash":"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh","via":"node","reason":""}');
INSERT INTO "events" VALUES(32,1.79591835122992467882e+09,'run-failed',NULL,'run.state','hanse','{"from":"awaiting_consent","to":"running","reason":"all nodes accepted"}');
INSERT INTO "events" VALUES(33,1.79591835123394036287e+09,'run-failed',NULL,'run.state','coordinator','{"from":"running","to":"failed","reason":"too few nodes"}');
CREATE TABLE join_tokens (
	id VARCHAR(64) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	node VARCHAR(64), 
	owner VARCHAR(64), 
	created DOUBLE NOT NULL, 
	created_by VARCHAR(200) NOT NULL, 
	expires DOUBLE NOT NULL, 
	used_at DOUBLE, 
	used_by VARCHAR(64), 
	PRIMARY KEY (id), 
	UNIQUE (digest), 
	FOREIGN KEY(owner) REFERENCES accounts (id)
);
INSERT INTO "join_tokens" VALUES('join-bb6e6c8913e7','8fb631ba8d71ce45b8a44aaba04abdaac75787278d1a41e637ecdd233160b36d','north',NULL,1.79591835106097245217e+09,'operator',1.79600475106097245223e+09,1.79591835106332969665e+09,'north');
INSERT INTO "join_tokens" VALUES('join-dbf62d8a61f6','8884aef154f37d0a918b69dda6e05d4697a9266cada88cf317d7fc8444178b16','south',NULL,1.79591835108100605009e+09,'operator',1.79600475108100605015e+09,1.79591835108551383022e+09,'south');
CREATE TABLE model_versions (
	run VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	round INTEGER, 
	sha VARCHAR(64) NOT NULL, 
	nbytes BIGINT NOT NULL, 
	metrics JSON NOT NULL, 
	created DOUBLE NOT NULL, 
	PRIMARY KEY (run, version), 
	UNIQUE (run, round, sha), 
	FOREIGN KEY(run) REFERENCES runs (id)
);
INSERT INTO "model_versions" VALUES('run-completed',1,3,'efd7b6dcd2e5753d6e8dc8d1510612f9d12267ff0db1a5b0b8d10b9ed8681a0e',128,'{"accuracy":0.75}',1.79591835115885138512e+09);
CREATE TABLE nodes (
	id VARCHAR(64) NOT NULL, 
	status VARCHAR(20) NOT NULL, 
	serial VARCHAR(80) NOT NULL, 
	fingerprint VARCHAR(128) NOT NULL, 
	registered_at DOUBLE NOT NULL, 
	last_heartbeat DOUBLE, 
	address TEXT NOT NULL, 
	capabilities JSON NOT NULL, 
	summary JSON NOT NULL, 
	datasets JSON NOT NULL, 
	consent_mode VARCHAR(20) NOT NULL, 
	updated DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (fingerprint)
);
INSERT INTO "nodes" VALUES('north','enrolled','1north','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffnort',1.79591835106959199909e+09,1.7959183510770425796e+09,'10.0.0.1','{"hanse":"0.1.0"}','{}','[{"name":"patients","version":"ab","columns":{"age":"float"},"rows":40}]','ask',1.79591835107723522182e+09);
INSERT INTO "nodes" VALUES('south','enrolled','1south','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffsout',1.79591835108624458313e+09,1.79591835108896327017e+09,'10.0.0.1','{"hanse":"0.1.0"}','{}','[{"name":"patients","version":"ab","columns":{"age":"float"},"rows":40}]','ask',1.79591835108909249306e+09);
CREATE TABLE owners (
	node VARCHAR(64) NOT NULL, 
	account VARCHAR(64) NOT NULL, 
	PRIMARY KEY (node), 
	FOREIGN KEY(account) REFERENCES accounts (id)
);
INSERT INTO "owners" VALUES('north','acc-e1cbd80895d3');
CREATE TABLE rounds (
	run VARCHAR(64) NOT NULL, 
	step INTEGER NOT NULL, 
	label VARCHAR(64) NOT NULL, 
	round INTEGER, 
	started DOUBLE NOT NULL, 
	ended DOUBLE NOT NULL, 
	status VARCHAR(10) NOT NULL, 
	record JSON NOT NULL, 
	PRIMARY KEY (run, step), 
	FOREIGN KEY(run) REFERENCES runs (id)
);
INSERT INTO "rounds" VALUES('run-completed',0,'train',1,1.79591835112898206717e+09,1.79591835112898683549e+09,'ok','{"label":"train","round":1,"metrics":{"loss":1.0}}');
INSERT INTO "rounds" VALUES('run-completed',1,'train',2,1.79591835114109134676e+09,1.79591835114110088354e+09,'ok','{"label":"train","round":2,"metrics":{"loss":0.5}}');
INSERT INTO "rounds" VALUES('run-completed',2,'train',3,1.79591835114500141144e+09,1.79591835114500784874e+09,'ok','{"label":"train","round":3,"metrics":{"loss":0.3333333333333333}}');
INSERT INTO "rounds" VALUES('run-running',0,'train',1,1.7959183511969723701e+09,1.79591835119697690011e+09,'ok','{"label":"train","round":1,"metrics":{"loss":1.0}}');
INSERT INTO "rounds" VALUES('run-running',1,'train',2,1.79591835120100760461e+09,1.79591835120101380352e+09,'ok','{"label":"train","round":2,"metrics":{"loss":0.5}}');
CREATE TABLE runs (
	id VARCHAR(64) NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	config JSON NOT NULL, 
	bundle_hash VARCHAR(128) NOT NULL, 
	bundle JSON NOT NULL, 
	nodes JSON NOT NULL, 
	proposer VARCHAR(200) NOT NULL, 
	seed BIGINT NOT NULL, 
	created DOUBLE NOT NULL, 
	started DOUBLE, 
	ended DOUBLE, 
	expires DOUBLE, 
	reason TEXT NOT NULL, 
	result VARCHAR(64), 
	step INTEGER, 
	round INTEGER, 
	updated DOUBLE NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "runs" VALUES('run-completed','completed','{"rounds":3,"model_name":"logistic_regression"}','hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh','{"gathering":"plain","datasets":{}}','["north","south"]','ada',1,1.79591835109300065041e+09,1.79591835112579441074e+09,1.79591835116555619241e+09,NULL,'','efd7b6dcd2e5753d6e8dc8d1510612f9d12267ff0db1a5b0b8d10b9ed8681a0e',2,3,1.79591835116555619241e+09);
INSERT INTO "runs" VALUES('run-running','running','{"rounds":3,"model_name":"logistic_regression"}','hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh','{"gathering":"plain","datasets":{}}','["north","south"]','ada',2,1.79591835117699360853e+09,1.79591835119371032712e+09,NULL,NULL,'all nodes accepted',NULL,1,2,1.7959183512014052868e+09);
INSERT INTO "runs" VALUES('run-waiting','awaiting_consent','{"rounds":3,"model_name":"logistic_regression"}','hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh','{"gathering":"plain","datasets":{}}','["north","south"]','ada',3,1.79591835120496654508e+09,NULL,NULL,NULL,'',NULL,NULL,NULL,1.79591835120982956891e+09);
INSERT INTO "runs" VALUES('run-failed','failed','{"rounds":3,"model_name":"logistic_regression"}','hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh','{"gathering":"plain","datasets":{}}','["north","south"]','ada',4,1.79591835121294260023e+09,1.7959183512296850681e+09,1.79591835123333597177e+09,NULL,'too few nodes',NULL,NULL,NULL,1.79591835123333597177e+09);
CREATE TABLE schema_version (
	version INTEGER NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "schema_version" VALUES(1);
CREATE INDEX ix_runs_created ON runs (created);
CREATE INDEX ix_runs_state ON runs (state);
CREATE INDEX events_of_run ON events (run, id);
CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE INDEX ix_owners_account ON owners (account);
CREATE INDEX ix_checkpoints_sha ON checkpoints (sha);
CREATE INDEX ix_model_versions_sha ON model_versions (sha);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',33);
COMMIT;
